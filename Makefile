# ckpt-filters: build, install, test. `make demo` and `make check` also install what they need.
VERSION  := 0.1.0
PREFIX   ?= /usr/local
BUILD    ?= build
CC       ?= cc
CFLAGS   ?= -O2 -g
WARNINGS  = -Wall -Wextra -Wshadow -Wconversion -Werror
LIBS      = -larchive -lyajl -lzstd -ldeflate -lz -lcrypto -lpthread
override CFLAGS += -std=c11 $(WARNINGS) -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DVERSION='"$(VERSION)"' -pthread -Icommon

PROGRAMS := $(patsubst filters/%.c,%,$(wildcard filters/*.c))
OBJECTS  := $(patsubst common/%.c,$(BUILD)/common/%.o,$(wildcard common/*.c))
BINARIES := $(addprefix $(BUILD)/,$(PROGRAMS))
SCRIPTS  := checkpoint_converter.sh

# Libraries that only one program needs.
$(BUILD)/hf-fetch: LIBS += -lcurl

all: $(BINARIES) $(addprefix $(BUILD)/,$(SCRIPTS))

$(BUILD)/common/%.o: common/%.c | $(BUILD)/common
	$(CC) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/filters/%.o: filters/%.c | $(BUILD)/filters
	$(CC) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/libcommon.a: $(OBJECTS)
	rm -f $@ && $(AR) rcs $@ $^

$(BINARIES): $(BUILD)/%: $(BUILD)/filters/%.o $(BUILD)/libcommon.a
	$(CC) $(CFLAGS) $(LDFLAGS) $< $(BUILD)/libcommon.a $(LIBS) -o $@

$(addprefix $(BUILD)/,$(SCRIPTS)): $(BUILD)/%: scripts/% | $(BUILD)
	install -m 755 $< $@

$(BUILD) $(BUILD)/common $(BUILD)/filters:
	mkdir -p $@

-include $(wildcard $(BUILD)/*/*.d)

format:
	clang-format -i common/*.[ch] filters/*.c

clean:
	rm -rf build build-*

.PHONY: all format clean
.SECONDARY:
