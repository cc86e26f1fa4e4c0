# How Python Plus builds gilscope's own sources; its Makefile includes this file where it begins to
# list its objects.
#
# GILSCOPE_PROBE  absolute path of gilscope/probe, on make's command line or in its environment
# GILSCOPE_FLAGS  build macros of probe/switches.h, such as -DGILSCOPE_PERFORMANCE_TESTING=1

ifndef GILSCOPE_PROBE
$(error set GILSCOPE_PROBE to the path of gilscope/probe, or build with `gilscope interpreter build`)
endif

# The rules below stand before the Makefile's first.
.DEFAULT_GOAL = all

GILSCOPE_ROOT = $(GILSCOPE_PROBE)/..
GILSCOPE_INCLUDES = -I$(GILSCOPE_ROOT) $(GILSCOPE_FLAGS)
GILSCOPE_HEADERS = $(wildcard $(GILSCOPE_PROBE)/*.h $(GILSCOPE_PROBE)/interpreter/*.h \
	$(GILSCOPE_ROOT)/sync/*.h)

GILSCOPE_PROBE_NAMES = api atomic built_in clock collections condvar fence frames gil_condvar memory modules \
	names park policy process processor python request ring slice stacks switches threads waits yield
GILSCOPE_RUNTIME_NAMES = runtime
GILSCOPE_SYNC_NAMES = atomic condition due feed forks rlock sync
GILSCOPE_OBJS = $(GILSCOPE_PROBE_NAMES:%=gilscope/probe/%.o) \
	$(GILSCOPE_RUNTIME_NAMES:%=gilscope/runtime/%.o) \
	$(GILSCOPE_SYNC_NAMES:%=gilscope/sync/%.o)

# CPython's files that the patches lead to the probe.
GILSCOPE_PATCHED = Python/ceval_gil.o Python/gc.o Python/parking_lot.o Python/pylifecycle.o \
	Python/sysmodule.o Python/thread.o

# What the native types are called here: they belong to _thread.
GILSCOPE_SYNC_FLAGS = -DGS_MODULE_NAME='"_thread"' -DGS_CONDITION_NAME='"threading.Condition"' \
	-DGS_RLOCK_NAME='"_thread.ConditionLock"' -DGS_WAKE_WHEN_DROPPED
MODULE__THREAD_CFLAGS += $(GILSCOPE_INCLUDES) $(GILSCOPE_SYNC_FLAGS)
MODULE_TIME_CFLAGS += $(GILSCOPE_INCLUDES)

$(GILSCOPE_OBJS) $(GILSCOPE_PATCHED) Modules/_threadmodule.o Modules/timemodule.o: $(GILSCOPE_HEADERS)
$(GILSCOPE_PATCHED): PY_CORE_CFLAGS += $(GILSCOPE_INCLUDES)

gilscope/probe/%.o: $(GILSCOPE_PROBE)/%.c
	@mkdir -p $(@D)
	$(CC) $(PY_CORE_CFLAGS) -ftls-model=initial-exec $(GILSCOPE_INCLUDES) -c $< -o $@

gilscope/runtime/%.o: $(GILSCOPE_PROBE)/interpreter/%.c
	@mkdir -p $(@D)
	$(CC) $(PY_CORE_CFLAGS) $(GILSCOPE_INCLUDES) -c $< -o $@

gilscope/sync/%.o: $(GILSCOPE_ROOT)/sync/%.c
	@mkdir -p $(@D)
	$(CC) $(PY_CORE_CFLAGS) $(GILSCOPE_INCLUDES) $(GILSCOPE_SYNC_FLAGS) -c $< -o $@
