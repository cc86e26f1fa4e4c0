/* What is put into a process to bring the probe in: a few hundred bytes that the attacher copies
 * into room that nobody uses, and that the process comes to by itself.
 *
 * gs_stub_unlock stands in the place of pthread_mutex_unlock, in the slot through which CPython
 * calls that. Of all its calls one is told apart: the GIL's mutex is unlocked, the GIL is taken,
 * and its holder's thread state is the calling thread's own. That is the end of take_gil: ordinary
 * C code with the GIL held, no mutex held, not in the allocator, not in a signal handler. The first
 * thread that comes there opens the probe's library and calls one function of it.
 *
 * It never waits for the loader. Who opens a library has the loader's locks while that library's
 * constructors run, and one of these may need the GIL, which the caller holds. So the locks are
 * tried, not taken, and where one of them is not free nothing is done: the attacher tries again.
 *
 * The code lies in a section of its own, refers to nothing outside of it, and is never called where
 * it stands: a test holds that. What it needs to know stands behind it (struct gs_stub_words). */
#include "stub.h"

#if defined(__x86_64__)

/* No call that a compiler thinks of by itself: of memset, of a stack protector. */
#if defined(__clang__)
#define PLAIN __attribute__((no_builtin, no_stack_protector))
#else
#define PLAIN
#pragma GCC push_options
#pragma GCC optimize("O1", "no-stack-protector", "no-tree-loop-distribute-patterns")
#endif
#define STUB PLAIN __attribute__((section("gs_stub"), used, noinline, visibility("hidden")))
#define WITH PLAIN static inline __attribute__((always_inline))

/* In the same section: an address that the copy has as the original does. */
extern const struct gs_stub_words gs_stub_words __attribute__((visibility("hidden")));
__asm__(".pushsection gs_stub,\"ax\",@progbits\n"
        ".balign 16\n"
        ".globl gs_stub_words\n.hidden gs_stub_words\n"
        "gs_stub_words: .skip " GS_STUB_WORDS_BYTES "\n"
        ".popsection\n");

/* A thread state has what pthread_self gives its thread in one of its first words. */
WITH int is_state_of_caller(const uint64_t *state) {
    uint64_t self;
    __asm__("mov %%fs:0x10, %0" : "=r"(self));
    for (unsigned i = 0; i < GS_STUB_STATE_WORDS; i++)
        if (state[i] == self)
            return 1;
    return 0;
}

WITH void call_function(const struct gs_stub_words *words, struct gs_stub_state *state) {
    uint32_t tried = 0, outcome = GS_STUB_LOADER_IS_BUSY;
    int *error = words->errno_location(), saved_errno = *error;
    while (tried < words->n_locks && words->trylock(words->locks[tried]) == 0)
        tried++;
    if (tried == words->n_locks) {
        outcome = GS_STUB_NO_LIBRARY;
        void *library = words->open(words->library, GS_STUB_OPEN);
        int (*function)(const void *) = 0;
        if (library) {
            *(void **)&function = words->symbol(library, words->function);
            state->late = (uint64_t)words->symbol(library, words->late);
        }
        if (function) {
            state->result = function(&words->request);
            outcome = GS_STUB_DONE;
        }
    }
    while (tried)
        words->unlock(words->locks[--tried]);
    *error = saved_errno;
    __atomic_store_n(&state->state, outcome, __ATOMIC_RELEASE);
}

WITH int is_first(struct gs_stub_state *state) {
    uint32_t nobody = GS_STUB_ARMED;
    return __atomic_compare_exchange_n(&state->state, &nobody, GS_STUB_CALLED, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

STUB int gs_stub_unlock(void *mutex) {
    const struct gs_stub_words *words = &gs_stub_words;
    int here = mutex == words->mutex && *words->locked == 1 &&
               words->state->state == GS_STUB_ARMED && *words->holder &&
               is_state_of_caller(*words->holder);
    int result = words->unlock(mutex);
    if (here && is_first(words->state))
        call_function(words, words->state);
    return result;
}

STUB void gs_stub_led(void) {
    const struct gs_stub_words *words = &gs_stub_words;
    if (is_first(words->state))
        call_function(words, words->state);
}

#if !defined(__clang__)
#pragma GCC pop_options
#endif

/* Where a thread is led that was stopped with the GIL in hand (seize.c). By then nobody traces it
 * any more: it saves all that it has, below what its stack may have in use without saying so (128
 * bytes), and goes on by itself where it was. xsave has a header of 64 bytes behind the first 512;
 * 0xe7 are x87, SSE, AVX and AVX-512. */
__asm__(".pushsection gs_stub,\"ax\",@progbits\n"
        ".balign 16\n"
        ".globl gs_stub_direct\n.hidden gs_stub_direct\n"
        "gs_stub_direct: endbr64\n"
        "leaq -128(%rsp), %rsp\n"
        "pushfq\n"
        "pushq %rax\n pushq %rcx\n pushq %rdx\n pushq %rbx\n pushq %rbp\n"
        "pushq %rsi\n pushq %rdi\n pushq %r8\n pushq %r9\n pushq %r10\n"
        "pushq %r11\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
        "cld\n"
        "movq %rsp, %rbx\n"
        "subq $4096, %rsp\n"
        "andq $-64, %rsp\n"
        "xorl %eax, %eax\n"
        "movq %rax, 512(%rsp)\n movq %rax, 520(%rsp)\n movq %rax, 528(%rsp)\n"
        "movq %rax, 536(%rsp)\n movq %rax, 544(%rsp)\n movq %rax, 552(%rsp)\n"
        "movq %rax, 560(%rsp)\n movq %rax, 568(%rsp)\n"
        "xorl %edx, %edx\n"
        "movl $0xe7, %eax\n"
        "xsave64 (%rsp)\n"
        "call gs_stub_led\n"
        "xorl %edx, %edx\n"
        "movl $0xe7, %eax\n"
        "xrstor64 (%rsp)\n"
        "movq %rbx, %rsp\n"
        "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %r11\n"
        "popq %r10\n popq %r9\n popq %r8\n popq %rdi\n popq %rsi\n"
        "popq %rbp\n popq %rbx\n popq %rdx\n popq %rcx\n popq %rax\n"
        "popfq\n"
        "leaq 128(%rsp), %rsp\n"
        "jmpq *gs_stub_words+" GS_STUB_RESUME "(%rip)\n"
        ".popsection\n");
extern const char gs_stub_direct[] __attribute__((visibility("hidden")));

extern const char __start_gs_stub[], __stop_gs_stub[];

EXPORT void gs_stub_blob(struct gs_stub_blob *blob) {
    const char *start = __start_gs_stub;
    blob->start = start;
    blob->bytes = (uint64_t)(__stop_gs_stub - start);
    blob->unlock = (uint64_t)((const char *)gs_stub_unlock - start);
    blob->direct = (uint64_t)(gs_stub_direct - start);
    blob->words = (uint64_t)((const char *)&gs_stub_words - start);
}

#else

EXPORT void gs_stub_blob(struct gs_stub_blob *blob) {
    *blob = (struct gs_stub_blob){0}; /* not for this machine */
}

#endif
