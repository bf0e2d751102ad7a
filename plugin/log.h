/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_LOG_H
#define PLUGIN_LOG_H

/*
 * One line per event on stderr (which systemd hands to the journal): "tarnd[engine]: text".
 * Only processes' loops and verbs log; libraries return errors. Safe in every process, thread
 * safe, one write(2) per line.
 */
enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_init(const char *process, enum log_level level);
/* From now on @level counts (borrowed, for good): memory in which another process changes it. */
void log_follow(const int *level);
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
