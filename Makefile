# SPDX-License-Identifier: Apache-2.0
# The only build file. `make help` lists what it can do.

VERSION   := 0.1.0
PREFIX    ?= /usr/local
bindir    ?= $(PREFIX)/bin
sbindir   ?= $(PREFIX)/sbin
libexecdir ?= $(PREFIX)/libexec
mandir    ?= $(PREFIX)/share/man
datadir   ?= $(PREFIX)/share
unitdir   ?= $(PREFIX)/lib/systemd/system

CC       ?= cc
B        ?= build
ISAL     ?= 0
SAN      ?=
WERROR   ?= $(if $(CI),-Werror,)

PKGS     := yajl libarchive libcurl libcrypto zlib libzstd libcap libseccomp
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	-Wpointer-arith -Wwrite-strings -Wno-unused-parameter -Wformat=2 $(WERROR)
CFLAGS   ?= -O2 -g
ALL_CFLAGS := -std=gnu11 $(WARN) -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 \
	-DTARN_VERSION='"$(VERSION)"' -DTARN_LIBEXECDIR='"$(libexecdir)/tarn"' \
	-fstack-protector-strong -fno-strict-aliasing -pthread -I. $(PKG_CFLAGS)
ALL_CFLAGS += $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
ALL_LDFLAGS := -pthread $(LDFLAGS) $(if $(SAN),-fsanitize=$(SAN))
LIBS     := $(PKG_LIBS)
ifeq ($(ISAL),1)
ALL_CFLAGS += -DTARN_ISAL=1
LIBS += -lisal
endif

# --- what is built from what -----------------------------------------------------------------
OCI_SRC    := $(sort $(wildcard oci/*.c oci/*/*.c))
PLUGIN_SRC := $(sort $(filter-out plugin/main.c,$(wildcard plugin/*.c)) \
	$(wildcard $(addprefix plugin/,$(addsuffix /*.c,fault fill store mount ctl))))
CLI_SRC    := $(sort $(wildcard plugin/cli/*.c))
ATTACH_SRC := $(filter-out hooks/hook.c hooks/runtime.c,$(sort $(wildcard hooks/*.c)))
UNIT_SRC   := $(sort $(wildcard tests/unit/*.c))

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
PROGS := $(B)/tarn $(B)/tarnd $(B)/tarn-hook $(B)/tarn-runtime
UNITS := $(patsubst tests/unit/%.c,$(B)/unit/%,$(UNIT_SRC))

all: $(PROGS)

$(B)/liboci.a: $(call obj,$(OCI_SRC))
$(B)/libplugin.a: $(call obj,$(PLUGIN_SRC))
$(B)/libattach.a: $(call obj,$(ATTACH_SRC))
$(B)/%.a:
	@rm -f $@
	$(Q)ar rcs $@ $^

$(B)/tarn: $(call obj,$(CLI_SRC)) $(B)/libattach.a $(B)/libplugin.a $(B)/liboci.a
$(B)/tarnd: $(call obj,plugin/main.c) $(B)/libplugin.a $(B)/liboci.a
$(B)/tarn-hook: $(call obj,hooks/hook.c) $(B)/libattach.a $(B)/libplugin.a $(B)/liboci.a
$(B)/tarn-runtime: $(call obj,hooks/runtime.c) $(B)/libattach.a $(B)/libplugin.a $(B)/liboci.a
$(PROGS):
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/unit/%: $(B)/obj/tests/unit/%.o $(B)/libplugin.a $(B)/liboci.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)

.PHONY: all
