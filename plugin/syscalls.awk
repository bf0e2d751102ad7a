# SPDX-License-Identifier: Apache-2.0
# Turns the notes
#
#	#syscalls engine fetcher: read write socket@0=AF_INET+1/0xf=SOCK_STREAM clone3!ENOSYS
#
# in comments beside the functions that need those system calls into macros for filter.c, one for
# each process: SYSCALLS_ENGINE is then a list of initializers of struct call. Filter and code cannot
# drift apart. After a name, without blanks:
#
#	@N=VALUE	only with this N-th argument, counted from 0; values are C
#	@N/MASK=VALUE	likewise, of its bits in MASK; further conditions follow after a +
#	!ERRNO		not permitted: it fails with this error, and the process goes on
function condition(text,   mask, at)
{
	mask = "~0u"
	if (!match(text, /=/))
		return "{0, 0, 0}"
	at = substr(text, 1, RSTART - 1)
	text = substr(text, RSTART + 1)
	if (match(at, /\//)) {
		mask = substr(at, RSTART + 1)
		at = substr(at, 1, RSTART - 1)
	}
	return "{" at ", " mask ", " text "}"
}

function call(token,   error, n, part, list, i)
{
	error = "0"
	if (match(token, /!/)) {
		error = substr(token, RSTART + 1)
		token = substr(token, 1, RSTART - 1)
	}
	n = split(token, part, /[@+]/)
	for (i = 2; i <= n; i++)
		list = list condition(part[i]) ", "
	return "{\"" part[1] "\", " error ", " n - 1 ", {" list "}}, "
}

# A note that was wrapped would be lost.
/#syscalls[ \t]*$/ {
	print "#error " FILENAME ": a note without calls"
}

/#syscalls [a-z ]+:/ {
	sub(/.*#syscalls /, "")
	sub(/[ \t]*\*\/.*/, "")
	nwho = split(substr($0, 1, index($0, ":") - 1), who, / +/)
	n = split(substr($0, index($0, ":") + 1), token, /[ ,]+/)
	if (!match(substr($0, index($0, ":") + 1), /[a-z]/))
		print "#error " FILENAME ": a note without calls"
	for (w = 1; w <= nwho; w++)
		for (i = 1; i <= n; i++)
			if (token[i] != "" && !seen[who[w], token[i]]++)
				calls[who[w]] = calls[who[w]] call(token[i])
}

END {
	for (w in calls)
		print "#define SYSCALLS_" toupper(w) " " calls[w]
}
