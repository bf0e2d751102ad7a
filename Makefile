# SPDX-License-Identifier: Apache-2.0
# The only build file. `make help` lists what it can do.

VERSION    := 0.1.0
PREFIX     ?= /usr/local
bindir     ?= $(PREFIX)/bin
sbindir    ?= $(PREFIX)/sbin
libexecdir ?= $(PREFIX)/libexec
datadir    ?= $(PREFIX)/share
mandir     ?= $(datadir)/man
unitdir    ?= $(PREFIX)/lib/systemd/system
sysusersdir ?= $(PREFIX)/lib/sysusers.d
hooksdir   ?= $(datadir)/containers/oci/hooks.d

CC      ?= cc
B       ?= build
ISAL    ?= 0
SAN     ?=
WERROR  ?= $(if $(CI),-Werror,)
Q       := $(if $(V),,@)

PKGS       := yajl libarchive libcurl libcrypto zlib libzstd libcap libseccomp
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	-Wpointer-arith -Wwrite-strings -Wno-unused-parameter -Wformat=2 $(WERROR)
CFLAGS   ?= -O2 -g $(if $(SAN),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
# The sanitizers' run-time makes system calls of its own: TARN_TEST_CALLS permits them (filter.c).
SAN_FLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer \
	-DTARN_TEST_CALLS)
ALL_CFLAGS := -std=gnu11 $(WARN) -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 \
	-DTARN_VERSION='"$(VERSION)"' -DTARN_LIBEXECDIR='"$(libexecdir)/tarn"' \
	-fstack-protector-strong -fno-strict-aliasing -pthread -I. $(PKG_CFLAGS) $(SAN_FLAGS)
ALL_LDFLAGS := -pthread -Wl,-z,relro,-z,now $(LDFLAGS) $(SAN_FLAGS)
LIBS       := $(PKG_LIBS)
ifeq ($(ISAL),1)
ALL_CFLAGS += -DTARN_ISAL=1
LIBS       += -lisal
endif

# Counts lines, for `make coverage`; see tests/coverage/dump.c.
ifeq ($(COV),1)
COV_FLAGS  := -fprofile-arcs -ftest-coverage -fprofile-update=atomic -fprofile-abs-path \
	-fprofile-info-section=gcov_info
ALL_LDFLAGS += -Wl,--wrap=_exit -Wl,--wrap=execv
LIBS       += -lgcov
endif

# Other flags, another build: paths are compiled in, so `make install PREFIX=` may need one.
FLAGS := $(CC) $(ALL_CFLAGS) $(COV_FLAGS) $(CPPFLAGS) $(CFLAGS)
ifneq ($(FLAGS),$(file <$(B)/flags))
$(shell mkdir -p $(B))
$(file >$(B)/flags,$(FLAGS))
endif

# --- what is built from what -----------------------------------------------------------------
OCI_SRC    := $(sort $(wildcard oci/*.c oci/*/*.c))
PLUGIN_SRC := $(sort $(filter-out plugin/main.c,$(wildcard plugin/*.c)) \
	$(wildcard $(addprefix plugin/,$(addsuffix /*.c,fault fill store mount ctl engine fetch keep))))
CLI_SRC    := $(sort $(wildcard plugin/cli/*.c))
ATTACH_SRC := $(filter-out hooks/hook.c hooks/runtime.c,$(sort $(wildcard hooks/*.c)))

obj     = $(patsubst %.c,$(B)/obj/%.o,$(1))
bin     = $(patsubst %.c,$(B)/$(1)/%,$(notdir $(wildcard $(2))))
ARCHIVES := $(B)/libattach.a $(B)/libplugin.a $(B)/liboci.a
PROGS   := $(B)/tarn $(B)/tarnd $(B)/tarn-hook $(B)/tarn-runtime
UNITS   := $(call bin,unit,tests/unit/*.c)
FUZZERS := $(patsubst fuzz_%,%,$(notdir $(basename $(wildcard tests/fuzz/fuzz_*.c))))
REPLAYS := $(addprefix $(B)/test/replay-,$(FUZZERS))
HELPERS := $(call bin,test,tests/system/*.c tests/kernel/*.c tests/bench/*.c)
STATICS := $(call bin,test,tests/fixtures/*.c)
VARIANTS := $(addprefix $(B)/test/,tarnd-noproof tarnd-deadly tarnd-exploit tarnd-lacking tarnd-next \
	tarnd-nosync tarnd-failing tarn-exploit tarn-failing)
TESTS   := $(UNITS) $(REPLAYS) $(HELPERS) $(STATICS) $(B)/test/oci-alone $(VARIANTS)

all: $(PROGS) ## the four programs
tests: $(PROGS) $(TESTS)
helpers: $(PROGS) $(HELPERS) $(STATICS)

$(B)/liboci.a: $(call obj,$(OCI_SRC))
$(B)/libplugin.a: $(call obj,$(PLUGIN_SRC))
$(B)/libattach.a: $(call obj,$(ATTACH_SRC))
$(ARCHIVES):
	@rm -f $@
	$(Q)ar rcs $@ $^

$(B)/tarn: $(call obj,$(CLI_SRC)) $(ARCHIVES)
$(B)/tarnd: $(call obj,plugin/main.c) $(B)/libplugin.a $(B)/liboci.a
$(B)/tarn-hook: $(call obj,hooks/hook.c) $(ARCHIVES)
$(B)/tarn-runtime: $(call obj,hooks/runtime.c) $(ARCHIVES)

# A source may ask for link flags of its own, in one line: /* link: -Wl,--wrap=fdatasync */
link_flags = $(shell sed -n 's|^/\* link: \(.*\) \*/$$|\1|p' $(1))
define link
@mkdir -p $(@D)
$(if $(Q),@echo "  LD    $@")
$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)
endef

$(PROGS):
	$(link)

$(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC    $<")
	$(Q)$(CC) $(ALL_CFLAGS) $(COV_FLAGS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(B)/coverage.o: tests/coverage/dump.c $(B)/flags
	$(Q)$(CC) $(ALL_CFLAGS) -O2 -DTARN_COVERAGE='"$(abspath $(B))/area"' -c -o $@ $<
COUNTED := $(PROGS) $(UNITS) $(REPLAYS) $(HELPERS) $(VARIANTS) $(B)/test/oci-alone
$(if $(COV_FLAGS),$(COUNTED): $(B)/coverage.o)

# The seccomp filters, from notes beside the functions that need the calls.
$(B)/gen/syscalls.h: plugin/syscalls.awk $(OCI_SRC) $(PLUGIN_SRC)
	@mkdir -p $(@D)
	$(Q)awk -f $^ | LC_ALL=C sort >$@.new
	$(Q)cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(B)/obj/plugin/filter.o: $(B)/gen/syscalls.h
$(B)/obj/plugin/filter.o: ALL_CFLAGS += -I$(B)/gen

# --- tests -----------------------------------------------------------------------------------
$(B)/unit/%: $(B)/obj/tests/unit/%.o $(ARCHIVES)
	$(link) $(call link_flags,tests/unit/$*.c) -lcmocka
$(B)/test/replay-%: $(B)/obj/tests/fuzz/fuzz_%.o $(B)/obj/tests/fuzz/replay.o $(ARCHIVES)
	$(link) $(call link_flags,tests/fuzz/fuzz_$*.c)
$(B)/fuzz/%: $(B)/obj/tests/fuzz/fuzz_%.o $(ARCHIVES)
	$(link) -fsanitize=fuzzer $(call link_flags,tests/fuzz/fuzz_$*.c)
$(filter $(call bin,test,tests/system/*.c),$(HELPERS)): $(B)/test/%: $(B)/obj/tests/system/%.o
$(filter $(call bin,test,tests/kernel/*.c),$(HELPERS)): $(B)/test/%: $(B)/obj/tests/kernel/%.o
$(filter $(call bin,test,tests/bench/*.c),$(HELPERS)): $(B)/test/%: $(B)/obj/tests/bench/%.o
$(HELPERS): $(ARCHIVES)
	$(link)
# Helpers that run inside containers: nothing but libc, and that linked in.
$(STATICS): $(B)/test/%: tests/fixtures/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(WARN) -D_GNU_SOURCE -O2 -g -static -pthread -o $@ $<
$(B)/unit/test_isolate $(B)/unit/test_rights: $(B)/obj/tests/hostile/attempts.o
# A daemon that evicts without proof: the test of eviction is to see the wrong bytes that makes.
$(B)/obj/noproof.o: plugin/store/evict_batch.c $(B)/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC    $@")
	$(Q)$(CC) $(ALL_CFLAGS) $(COV_FLAGS) -DTARN_TEST_NO_PROOF $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(B)/test/tarnd-noproof: $(call obj,plugin/main.c) $(B)/obj/noproof.o $(B)/libplugin.a $(B)/liboci.a
	$(link)
# A daemon whose engine dies of one event.
$(B)/test/tarnd-deadly: $(call obj,plugin/main.c tests/hostile/deadly.c) $(B)/libplugin.a \
		$(B)/liboci.a
	$(link) -Wl,--wrap=fault_new_content
# Programs whose parts do, when told, what somebody would who had taken them over.
comma := ,
wrap   = $(addprefix -Wl$(comma)--wrap=,$(1))
FETCHER_JOBS := $(addprefix fetch_,spans index manifest small_blob parse_layout parse_manifest \
	parse_config)
HOSTILE := $(call obj,tests/hostile/order.c tests/hostile/attempts.c)
$(B)/test/tarnd-exploit: $(call obj,plugin/main.c tests/hostile/exploit.c) $(HOSTILE) \
		$(B)/libplugin.a $(B)/liboci.a
	$(link) $(call wrap,fault_new_content $(FETCHER_JOBS))
$(B)/test/tarn-exploit: $(call obj,$(CLI_SRC) tests/hostile/exploit_cli.c) $(HOSTILE) $(ARCHIVES)
	$(link) $(call wrap,config_parse_run bundle_user_lookup)
# A daemon whose guardian and keeper have one capability less.
$(B)/test/tarnd-lacking: $(call obj,plugin/main.c tests/hostile/lacking.c) $(B)/libplugin.a \
		$(B)/liboci.a
	$(link) -Wl,--wrap=isolate_keeper -Wl,--wrap=notify_systemd
# Programs in which any allocation or system call can be made to fail, once.
$(B)/test/tarnd-failing: $(call obj,plugin/main.c tests/torture/failing.c) $(B)/libplugin.a \
		$(B)/liboci.a
	$(link) -Wl,--wrap=log_init
$(B)/test/tarn-failing: $(call obj,$(CLI_SRC) tests/torture/failing.c) $(ARCHIVES)
	$(link) -Wl,--wrap=log_init
# The version after this one, for an upgrade under containers.
$(B)/obj/next.o: plugin/ctl/verb_status.c $(B)/flags
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC    $@")
	$(Q)$(CC) $(ALL_CFLAGS) -UTARN_VERSION -DTARN_VERSION='"next"' $(CPPFLAGS) $(CFLAGS) \
		-MMD -MP -c -o $@ $<
$(B)/test/tarnd-next: $(call obj,plugin/main.c) $(B)/obj/next.o $(B)/libplugin.a $(B)/liboci.a
	$(link)
# One that never syncs content: `make torture` is to see the claims to be false after a power cut.
$(B)/test/tarnd-nosync: $(call obj,plugin/main.c tests/torture/nosync.c) $(B)/libplugin.a $(B)/liboci.a
	$(link) -Wl,--wrap=fdatasync
# oci/ knows nothing of plugin/: the whole of it must link with the libraries alone.
$(B)/test/oci-alone: $(B)/liboci.a
	@mkdir -p $(@D)
	$(Q)echo 'int main(void) { return 0; }' | $(CC) $(ALL_LDFLAGS) -o $@ -xc - -xnone \
		-Wl,--whole-archive $< -Wl,--no-whole-archive $(filter %.o,$^) $(LIBS)

# Each of these installs what it lacks first, then starts make anew to find it.
again = +$(Q)$(MAKE) --no-print-directory
check: deps-check ## every test: unit, fuzz corpora, golden, system, kernel (as root)
	$(again) tests
	$(Q)B=$(B) tests/run $(T)
check-unit: deps-check ## the tests that need no root and no daemon
	$(again) $(UNITS) $(REPLAYS)
	$(Q)B=$(B) tests/run unit fuzz
# Where a process with threads forks, gcc 12's and older ones of clang may leave their allocator
# locked in the child, which then stands still. clang's does not since 17.
asan = B=$(B)/asan SAN=address,undefined CC=$(or $(shell command -v clang-19 || command -v clang),$(CC))
check-asan: deps-check ## check-unit under address and undefined-behaviour sanitizers
	$(again) check-unit $(asan)
check-tsan: deps-check ## unit tests that use threads, under the thread sanitizer
	$(again) tsan B=$(B)/tsan SAN=thread
# What the daemon's processes say is found by tests/fixtures/rig.bash. T chooses other kernel tests.
check-asan-kernel: deps-check ## the daemon at work under address and undefined-behaviour sanitizers (as root)
	$(again) check-kernel $(asan)
check-tsan-kernel: ## the same under the thread sanitizer
	$(again) check-kernel B=$(B)/tsan SAN=thread
check-kernel: helpers
	$(Q)B=$(B) tests/run $(or $(T),tests/torture/life.bats)
tsan: $(call bin,unit,$(shell grep -ls pthread_ tests/unit/*.c))
	$(Q)$(if $^,B=$(B) tests/run $^,echo 'no unit test uses threads')
# bash counts its own seconds by that name: only what is said to make counts.
fuzz_time = $(if $(filter command line,$(origin SECONDS)),$(SECONDS))
fuzz: deps-check ## each libFuzzer target for SECONDS=n (or FUZZ_TIME=n), else 30; T=TARGETS
	$(again) fuzzers B=$(B)/fuzz CC=clang SAN=fuzzer-no-link,address,undefined
	$(Q)B=$(B)/fuzz $(if $(fuzz_time),FUZZ_TIME=$(fuzz_time)) tests/fuzz/run $(or $(T),$(FUZZERS))
coverage: ## lines that the tests come through, by directory, with gcovr (as root)
	$(Q)tests/deps coverage
	$(again) tests B=$(B)/coverage COV=1 CFLAGS='-O0 -g' WERROR=
	$(Q)B=$(B)/coverage tests/coverage/run $(T)
fuzzers: $(addprefix $(B)/fuzz/,$(FUZZERS))
lint: deps-check ## format, complexity, sizes, banned functions, spelling, static analysis
	$(Q)tests/lint $(T)
torture: deps-check ## breaks it on purpose under readers: 20 minutes, a table (as root)
	$(again) tests
	$(Q)B=$(B) tests/torture/run $(T)
bench: deps-check ## the measurements
	$(again) tests
	$(Q)B=$(B) tests/bench/run
demo: deps-check ## the whole story on a throw-away store
	$(again) all $(STATICS)
	$(Q)B=$(B) tests/demo
deps: ## install what building needs
	$(Q)tests/deps build
deps-check: ## install what testing needs
	$(Q)tests/deps check

# --- installing ------------------------------------------------------------------------------
MAN  := $(patsubst %.scd,$(B)/man/%,$(notdir $(wildcard plugin/*.scd hooks/*.scd)))
HOOK := $(wildcard hooks/*.json)
D    := $(DESTDIR)
# The files in the tree name the usual places; installed ones name the real ones.
paths = sed -e 's,/usr/libexec/tarn,$(libexecdir)/tarn,g' -e 's,/usr/sbin/tarn,$(sbindir)/tarn,g' \
	-e 's,/usr/bin/tarn,$(bindir)/tarn,g'
INSTALLED = $(bindir)/tarn $(bindir)/tarn-runtime $(sbindir)/tarnd $(libexecdir)/tarn/tarn-hook \
	$(unitdir)/tarnd.service $(sysusersdir)/tarn.conf $(addprefix $(hooksdir)/,$(notdir $(HOOK))) \
	$(foreach m,$(notdir $(MAN)),$(mandir)/man$(lastword $(subst ., ,$(m)))/$(m))

$(B)/man/%: $(wildcard plugin/*.scd hooks/*.scd)
	@mkdir -p $(@D)
	$(Q)scdoc <$(filter %/$*.scd,$^) >$@

install: all $(MAN) ## PREFIX, DESTDIR and the GNU directory variables
	install -D -t $(D)$(bindir) $(B)/tarn $(B)/tarn-runtime
	install -D -t $(D)$(sbindir) $(B)/tarnd
	install -D -t $(D)$(libexecdir)/tarn $(B)/tarn-hook
	install -d $(D)$(unitdir) $(D)$(sysusersdir) $(D)$(hooksdir)
	$(paths) plugin/tarnd.service >$(D)$(unitdir)/tarnd.service
	install -m 644 plugin/tarnd.sysusers $(D)$(sysusersdir)/tarn.conf
	for f in $(HOOK); do $(paths) $$f >$(D)$(hooksdir)/$${f##*/} || exit; done
	for m in $(MAN); do install -D -m 644 -t $(D)$(mandir)/man$${m##*.} $$m || exit; done
uninstall: ## take it away again
	rm -f $(addprefix $(D),$(INSTALLED))
	rmdir $(D)$(libexecdir)/tarn 2>/dev/null || true
clean: ## remove $(B)
	rm -rf $(B)
help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16
	@echo 'B=DIR builds there, T=FILES narrows check and lint, V=1 shows commands; SAN, ISAL, CI'

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)

.SECONDARY:
.DELETE_ON_ERROR:
.PHONY: all tests helpers check check-unit check-asan check-tsan tsan check-kernel \
	check-asan-kernel check-tsan-kernel fuzz coverage fuzzers lint torture bench demo deps \
	deps-check install uninstall clean help
