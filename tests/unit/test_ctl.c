/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/ctl_stage.h"

static void no_socket_says_how_to_start(void **state)
{
	struct ctl_client *c = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(ctl_connect("/nonexistent/sock", &c, &e), -ENOENT);
	assert_null(c);
	assert_string_equal(e.text,
			    "tarnd is not running (no socket at /nonexistent/sock): start it "
			    "with systemctl start tarnd, or tarnd --store DIR --socket PATH");
	assert_int_equal(ctl_exit_code(&e), 1);
}

static void stale_socket_says_so(void **state)
{
	struct stage *st = *state;
	struct ctl_client *c = NULL;
	struct err e = ERR_INIT;
	char path[160];

	snprintf(path, sizeof(path), "%s.stale", st->path);
	close(listen_at(path));
	assert_int_equal(ctl_connect(path, &c, &e), -ECONNREFUSED);
	assert_non_null(strstr(e.text, "tarnd is not running (nobody answers at"));
	unlink(path);
}

static void answer_comes_back(void **state)
{
	struct stage *st = *state;
	_cleanup_(json_freep) struct json *doc = NULL;
	struct err e = ERR_INIT;
	int64_t uid = -1, pid = -1;

	assert_int_equal(
		ask(st->path, "{\"verb\":\"echo\",\"text\":\"h\\u00e9\"}", NULL, &doc, NULL, &e),
		0);
	assert_string_equal(json_get_str(json_get(doc, "done"), "text"), "h\xc3\xa9");
	assert_true(json_get_int(json_get(doc, "done"), "uid", &uid));
	assert_true(json_get_int(json_get(doc, "done"), "pid", &pid));
	assert_int_equal(uid, getuid());
	assert_int_equal(pid, getpid());
}

static void rows_come_in_order(void **state)
{
	struct stage *st = *state;
	struct heard heard = {.last = -1};
	struct err e = ERR_INIT;

	assert_int_equal(ask(st->path, "{\"verb\":\"list\",\"n\":1000}", &heard, NULL, NULL, &e),
			 0);
	assert_int_equal(heard.rows, 1000);
	assert_int_equal(heard.last, 999);
}

static void progress_is_told(void **state)
{
	struct stage *st = *state;
	struct heard heard = {.last = -1};
	struct err e = ERR_INIT;

	/* Few enough rows to leave room: progress waits for nobody. */
	assert_int_equal(ask(st->path, "{\"verb\":\"list\",\"n\":2}", &heard, NULL, NULL, &e), 0);
	assert_int_equal(heard.rows, 2);
	assert_int_equal(heard.progress, 1);
}

static void nobody_needs_to_listen_to_rows(void **state)
{
	struct stage *st = *state;
	struct err e = ERR_INIT;

	assert_int_equal(ask(st->path, "{\"verb\":\"list\",\"n\":3}", NULL, NULL, NULL, &e), 0);
}

static void check_failure(const char *path, const char *request, int code, int exit_code)
{
	struct err e = ERR_INIT;

	assert_int_equal(ask(path, request, NULL, NULL, NULL, &e), code);
	assert_int_equal(e.code, code);
	assert_int_equal(ctl_exit_code(&e), exit_code);
}

static void failures_keep_code_and_exit(void **state)
{
	struct stage *st = *state;
	char text[64];

	check_failure(st->path, "{\"verb\":\"fail\",\"code\":2}", -ENOENT, 1);
	check_failure(st->path, "{\"verb\":\"fail\",\"code\":28}", -ENOSPC, 1);
	snprintf(text, sizeof(text), "{\"verb\":\"fail\",\"code\":%d}", EOPNOTSUPP);
	check_failure(st->path, text, -EOPNOTSUPP, 3);
	snprintf(text, sizeof(text), "{\"verb\":\"fail\",\"code\":%d}", -CTL_USAGE);
	check_failure(st->path, text, -EINVAL, 2);
	/* What the work met is not the user's fault, whatever it is called. */
	snprintf(text, sizeof(text), "{\"verb\":\"fail\",\"code\":%d}", EINVAL);
	check_failure(st->path, text, -EIO, 1);
}

static void failure_keeps_its_words(void **state)
{
	struct stage *st = *state;
	struct err e = ERR_INIT;

	ask(st->path, "{\"verb\":\"fail\",\"code\":2}", NULL, NULL, NULL, &e);
	assert_string_equal(e.text, "it failed with 2");
}

static void failure_keeps_its_links(void **state)
{
	char a[ERR_TEXT_MAX], b[ERR_TEXT_MAX], c[ERR_TEXT_MAX];
	struct stage *st = *state;
	struct err e = ERR_INIT;

	assert_int_equal(ask(st->path, "{\"verb\":\"nest\"}", NULL, NULL, NULL, &e), -ENOENT);
	assert_string_equal(e.text, "layer 3: opening: /a: No such file or directory");
	assert_int_equal(err_nlinks(&e), 3);
	assert_string_equal(err_link(&e, 0, a), "layer 3");
	assert_string_equal(err_link(&e, 1, b), "opening: /a");
	assert_string_equal(err_link(&e, 2, c), "No such file or directory");
	assert_int_equal(e.links.cause, ENOENT);
}

static void failure_without_words_gets_some(void **state)
{
	struct stage *st = *state;
	struct err e = ERR_INIT;

	assert_int_equal(ask(st->path, "{\"verb\":\"silent\"}", NULL, NULL, NULL, &e), -ENOSPC);
	assert_string_equal(e.text, "silent: No space left on device");
}

static void bad_requests_are_usage(void **state)
{
	struct stage *st = *state;

	check_failure(st->path, "{\"verb\":\"dance\"}", -EINVAL, 2);
	check_failure(st->path, "{}", -EINVAL, 2);
	check_failure(st->path, "[1,2]", -EINVAL, 2);
	check_failure(st->path, "{\"verb\":7}", -EINVAL, 2);
	check_failure(st->path, "not JSON", -EINVAL, 2);
}

static void long_request_is_refused_here(void **state)
{
	struct stage *st = *state;
	char *text = malloc(LIMIT_CTL_MESSAGE + 2);
	struct err e = ERR_INIT;

	assert_non_null(text);
	memset(text, ' ', LIMIT_CTL_MESSAGE + 1);
	text[LIMIT_CTL_MESSAGE + 1] = '\0';
	assert_int_equal(ask(st->path, text, NULL, NULL, NULL, &e), -EMSGSIZE);
	free(text);
}

static void long_request_is_refused_there(void **state)
{
	struct stage *st = *state;
	_cleanup_fd_ int fd = connect_raw(st->path);
	size_t len = LIMIT_CTL_MESSAGE + 1;
	char *text = calloc(1, len);
	ssize_t n;

	assert_non_null(text);
	assert_int_equal(send(fd, text, len, 0), len);
	n = recv(fd, text, len - 1, 0);
	assert_true(n > 0);
	assert_non_null(strstr(text, "too long"));
	free(text);
}

static void long_row_fails_the_verb(void **state)
{
	struct stage *st = *state;

	check_failure(st->path, "{\"verb\":\"huge\"}", -EFBIG, 1);
}

static void descriptor_comes_with_done(void **state)
{
	struct stage *st = *state;
	struct err e = ERR_INIT;
	char text[3] = "";
	int fd = -1;

	assert_int_equal(ask(st->path, "{\"verb\":\"fd\"}", NULL, NULL, &fd, &e), 0);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(text)), 2);
	assert_string_equal(text, "hi");
	close(fd);
	assert_int_equal(ask(st->path, "{\"verb\":\"echo\"}", NULL, NULL, &fd, &e), 0);
	assert_int_equal(fd, -1);
}

static void unwanted_descriptor_is_closed(void **state)
{
	struct stage *st = *state;
	struct err e = ERR_INIT;
	int before = dup(0), after;

	for (int i = 0; i < 20; i++)
		assert_int_equal(ask(st->path, "{\"verb\":\"fd\"}", NULL, NULL, NULL, &e), 0);
	/* The server closes its end of things a moment after its answer. */
	usleep(100000);
	after = dup(0);
	assert_true(after < before + 5);
	close(before);
	close(after);
}

static void hangup_cancels(void **state)
{
	struct stage *st = *state;
	int fd = connect_raw(st->path);

	assert_true(send(fd, "{\"verb\":\"wait\"}", 15, 0) == 15);
	wait_for(&waiting);
	assert_int_equal(atomic_load(&cancelled), 0);
	close(fd);
	wait_for(&cancelled);
}

static void stop_cancels_and_is_waited_for(void **state)
{
	struct stage *st = *state;
	_cleanup_fd_ int fd = connect_raw(st->path);

	assert_true(send(fd, "{\"verb\":\"wait\"}", 15, 0) == 15);
	wait_for(&waiting);
	assert_int_equal(loop_call(st->en.loop, busy, &st->en), 1);
	loop_call(st->en.loop, stop, &st->en);
	wait_for(&cancelled);
	for (int i = 0; i < 5000 && loop_call(st->en.loop, busy, &st->en) > 0; i++)
		usleep(1000);
	assert_int_equal(loop_call(st->en.loop, busy, &st->en), 0);
}

static void silent_clients_are_in_nobodys_way(void **state)
{
	struct stage *st = *state;
	struct err e = ERR_INIT;
	int fd[100];

	for (int i = 0; i < 100; i++)
		fd[i] = connect_raw(st->path);
	assert_int_equal(ask(st->path, "{\"verb\":\"echo\"}", NULL, NULL, NULL, &e), 0);
	for (int i = 0; i < 100; i++)
		close(fd[i]);
}

struct one_more {
	const char *path;
	_Atomic int done;
};

static void *ask_one_more(void *ctx)
{
	struct one_more *o = ctx;
	struct err e = ERR_INIT;

	if (ask(o->path, "{\"verb\":\"echo\"}", NULL, NULL, NULL, &e) == 0)
		atomic_store(&o->done, 1);
	return NULL;
}

static void client_past_the_limit_waits_for_its_turn(void **state)
{
	struct stage *st = *state;
	struct one_more o = {.path = st->path};
	static int fd[LIMIT_CTL_CLIENTS];
	pthread_t thread;

	for (unsigned i = 0; i < LIMIT_CTL_CLIENTS; i++)
		fd[i] = connect_raw(st->path);
	assert_int_equal(pthread_create(&thread, NULL, ask_one_more, &o), 0);
	usleep(200000);
	assert_int_equal(atomic_load(&o.done), 0);
	close(fd[0]);
	wait_for(&o.done);
	pthread_join(thread, NULL);
	for (unsigned i = 1; i < LIMIT_CTL_CLIENTS; i++)
		close(fd[i]);
}

/* A path too long for a socket's address goes by its directory. */
static void long_path_is_no_obstacle(void **state)
{
	struct stage *st = *state;
	char dir[180], path[200];
	struct err e = ERR_INIT;
	int before, after;

	snprintf(dir, sizeof(dir), "%s/%0100d", st->dir, 7);
	assert_return_code(mkdir(dir, 0755), errno);
	snprintf(path, sizeof(path), "%s/sock", dir);
	assert_return_code(link(st->path, path), errno);
	before = open("/dev/null", O_RDONLY);
	close(before);
	assert_int_equal(ask(path, "{\"verb\":\"echo\"}", NULL, NULL, NULL, &e), 0);
	/* The directory's descriptor is not left open, but the server may not be done yet. */
	usleep(100000);
	after = open("/dev/null", O_RDONLY);
	close(after);
	assert_int_equal(after, before);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_socket_says_how_to_start),
		on_stage(stale_socket_says_so),
		on_stage(answer_comes_back),
		on_stage(rows_come_in_order),
		on_stage(progress_is_told),
		on_stage(nobody_needs_to_listen_to_rows),
		on_stage(failures_keep_code_and_exit),
		on_stage(failure_keeps_its_words),
		on_stage(failure_keeps_its_links),
		on_stage(failure_without_words_gets_some),
		on_stage(bad_requests_are_usage),
		on_stage(long_request_is_refused_here),
		on_stage(long_request_is_refused_there),
		on_stage(long_row_fails_the_verb),
		on_stage(descriptor_comes_with_done),
		on_stage(unwanted_descriptor_is_closed),
		on_stage(hangup_cancels),
		on_stage(stop_cancels_and_is_waited_for),
		on_stage(silent_clients_are_in_nobodys_way),
		on_stage(client_past_the_limit_waits_for_its_turn),
		on_stage(long_path_is_no_obstacle),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
