# ckpt-filters: build, install, test. `make help` lists what there is.
VERSION  := 0.1.0
PREFIX   ?= /usr/local
BUILD    ?= build
CFLAGS   ?= -O2 -g
WARNINGS ?= -Wall -Wextra -Wshadow -Wconversion -Werror
LIBS      = -larchive -lyajl -lyaml -lzstd -ldeflate -lz -lcrypto -lm -lpthread
COMPILE   = $(CC) -std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DVERSION='"$(VERSION)"' -pthread -Icommon \
            $(WARNINGS) $(CPPFLAGS) $(CFLAGS)
SANITIZE := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

PROGRAMS := $(patsubst filters/%.c,%,$(wildcard filters/*.c))
SCRIPTS  := checkpoint_converter.sh
OBJECTS  := $(patsubst common/%.c,$(BUILD)/common/%.o,$(wildcard common/*.c))
BINARIES := $(addprefix $(BUILD)/,$(PROGRAMS))
SHELL_FILES := $(wildcard scripts/*.sh) .ci/run completion/ckpt-filters.bash

# A whole build within another target, with all processors unless make was told how many.
BUILD_ALL = $(MAKE) $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc)) all

all: $(BINARIES) $(addprefix $(BUILD)/,$(SCRIPTS)) ## build everything into build/ (BUILD=, CC=, CFLAGS=)

# A library that only one program needs; the others are linked where they are used (--as-needed).
$(BUILD)/hf-fetch: LIBS += -lcurl

# Everything is built again when the compiler or its flags change.
$(BUILD)/flags: export FLAGS = $(COMPILE) $(LDFLAGS)
$(BUILD)/flags: FORCE | $(BUILD)
	@printf '%s\n' "$$FLAGS" | cmp -s - $@ || printf '%s\n' "$$FLAGS" >$@

$(BUILD)/%.o: %.c $(BUILD)/flags | $(BUILD)/common $(BUILD)/filters
	@echo '$(CC) $<'
	@$(COMPILE) -MMD -MP -c $< -o $@

$(BUILD)/libcommon.a: $(OBJECTS)
	@rm -f $@ && $(AR) rcs $@ $^

$(BINARIES): $(BUILD)/%: $(BUILD)/filters/%.o $(BUILD)/libcommon.a
	@echo '$(CC) -o $@'
	@$(COMPILE) $(LDFLAGS) -Wl,--as-needed $^ $(LIBS) -o $@

$(addprefix $(BUILD)/,$(SCRIPTS)): $(BUILD)/%: scripts/% | $(BUILD)
	install -m 755 $< $@

$(BUILD) $(BUILD)/common $(BUILD)/filters:
	mkdir -p $@

-include $(wildcard $(BUILD)/*/*.d)

demo: ## show a conversion there and back; installs what it needs
	@scripts/setup.sh build demo
	@echo building ...
	+@$(BUILD_ALL) >/dev/null
	@BUILD=$(BUILD) scripts/demo.sh

check: ## all tests; installs what they need
	scripts/setup.sh build check
	+$(BUILD_ALL)
	BUILD="$(BUILD)" scripts/test.sh

sanitize: ## the tests with programs that check memory and arithmetic (ASan, UBSan)
	scripts/setup.sh build check
	+$(BUILD_ALL) BUILD=build-sanitize CFLAGS="$(SANITIZE)"
	BUILD=build-sanitize scripts/test.sh

lint: ## shellcheck, the manual pages, builds by gcc and clang
	scripts/setup.sh build lint
	$(MAKE) shellcheck
	mandoc -T lint -W warning man/*.[15]
	+$(BUILD_ALL) BUILD=build-gcc CC=gcc
	+$(BUILD_ALL) BUILD=build-clang CC=clang

shellcheck:
	shellcheck $(SHELL_FILES)

bench: ## speed and memory, beside cp and curl
	scripts/setup.sh build bench
	+$(BUILD_ALL)
	BUILD="$(BUILD)" scripts/bench.sh
	BUILD="$(BUILD)" scripts/bench-fetch.sh

fuzz: ## every fuzz target of tests/fuzz for a minute (SECONDS_EACH=)
	scripts/setup.sh build fuzz
	scripts/fuzz.sh $(SECONDS_EACH)

format: ## lay out the C code (clang-format)
	clang-format -i common/*.[ch] filters/*.c tests/fuzz/*.[ch]

BIN        = $(DESTDIR)$(PREFIX)/bin
MAN        = $(DESTDIR)$(PREFIX)/share/man
COMPLETION = $(DESTDIR)$(PREFIX)/share/bash-completion/completions

install: all ## programs, manual pages and bash completion (PREFIX=, DESTDIR=)
	install -d "$(BIN)" "$(MAN)/man1" "$(MAN)/man5" "$(COMPLETION)"
	install -m 755 $(BINARIES) $(addprefix $(BUILD)/,$(SCRIPTS)) "$(BIN)"
	install -m 644 man/*.1 "$(MAN)/man1"
	install -m 644 man/*.5 "$(MAN)/man5"
	install -m 644 completion/ckpt-filters.bash "$(COMPLETION)/ckpt-filters"
	for p in $(PROGRAMS) $(SCRIPTS); do ln -sf ckpt-filters "$(COMPLETION)/$$p"; done

uninstall: ## what install put there
	for f in $(PROGRAMS) $(SCRIPTS); do rm -f "$(BIN)/$$f" "$(COMPLETION)/$$f"; done
	rm -f "$(COMPLETION)/ckpt-filters"
	for f in $(notdir $(wildcard man/*.[15])); do rm -f "$(MAN)/man1/$$f" "$(MAN)/man5/$$f"; done

clean: ## remove what was built
	rm -rf build build-*

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

.PHONY: all demo check sanitize lint shellcheck bench fuzz format install uninstall clean help FORCE
.SECONDARY:
