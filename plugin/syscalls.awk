# SPDX-License-Identifier: Apache-2.0
# Turns the notes
#
#	#syscalls fetcher: read write
#
# in comments beside the functions that need those system calls into macros for isolate.c, one for
# each process: SYSCALLS_FETCHER is then "read", "write". Filter and code cannot drift apart.
BEGIN {
	calls["FETCHER"] = ""
}

/#syscalls[ :]/ {
	sub(/.*#syscalls[ :]+/, "")
	sub(/[ \t]*\*\/.*/, "")
	gsub(/[:,]/, " ")
	for (i = 2; i <= NF; i++)
		if (!seen[$1, $i]++)
			calls[toupper($1)] = calls[toupper($1)] " \"" $i "\","
}

END {
	for (who in calls)
		print "#define SYSCALLS_" who calls[who]
}
