# SPDX-License-Identifier: Apache-2.0
# Turns the notes
#
#	#syscalls fetcher: read write
#
# in comments beside the functions that need those system calls into macros for isolate.c, one for
# each process: SYSCALLS_FETCHER is then "read", "write". Filter and code cannot drift apart.
/#syscalls/ {
	sub(/.*#syscalls:?[ \t]*/, "")
	sub(/[ \t]*\*\/.*/, "")
	gsub(/[:,]/, " ")
	for (i = 2; i <= NF; i++)
		calls[toupper($1) " " $i] = 1
}

END {
	names["FETCHER"] = ""
	for (c in calls) {
		split(c, w, " ")
		names[w[1]] = names[w[1]] "\"" w[2] "\", "
	}
	for (n in names)
		print "#define SYSCALLS_" n " " names[n]
}
