/* Hides instruction sets from a process: an audit library (see ld.so) that answers `cpuid` itself.
 *
 *   LD_AUDIT=hide.so HIDE_SITES=FILE HIDE_BITS="7.0.ebx:d0030000 ..." PROGRAM
 *
 * FILE lists where `cpuid` is executed, a line per place: the object's path and the address in it.
 * Each object is changed in memory as it is loaded, before any of its code runs: `cpuid` becomes `ud2`,
 * and the handler of that signal executes `cpuid` and clears the bits of HIDE_BITS. isa.py builds
 * this, lists the places and starts the programs. x86-64 Linux with glibc only.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static struct { unsigned leaf, subleaf, reg, bits; } hidden[16];
static int hidden_count;
static const char *const NAMES[] = {"eax", "ebx", "ecx", "edx"};
static const int GREGS[] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX};

static void fail(const char *problem, const char *what) {
    fprintf(stderr, "hide.so: %s %s\n", problem, what);
    _exit(120);
}

static void answer(int signal_number, siginfo_t *info, void *context) {
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)info;
    if (memcmp((void *)gregs[REG_RIP], "\x0f\x0b", 2) != 0) {
        /* Another illegal instruction: it ends the process when it runs again. */
        signal(signal_number, SIG_DFL);
        return;
    }
    unsigned leaf = gregs[REG_RAX], subleaf = gregs[REG_RCX], out[4];
    __cpuid_count(leaf, subleaf, out[0], out[1], out[2], out[3]);
    for (int i = 0; i < hidden_count; i++)
        if (hidden[i].leaf == leaf && hidden[i].subleaf == subleaf)
            out[hidden[i].reg] &= ~hidden[i].bits;
    for (int reg = 0; reg < 4; reg++)
        gregs[GREGS[reg]] = out[reg];
    gregs[REG_RIP] += 2;
}

static void patch(unsigned char *place, const char *object) {
    long page = sysconf(_SC_PAGESIZE);
    unsigned char *start = (unsigned char *)((unsigned long)place & -page);
    size_t length = place + 2 - start;
    if (mprotect(start, length, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
        fail("cannot change", object);
    if (memcmp(place, "\x0f\xa2", 2) != 0)
        fail("no cpuid where the list has one in", object);
    place[1] = 0x0b;
    mprotect(start, length, PROT_READ | PROT_EXEC);
}

unsigned la_version(unsigned version) {
    char *bits = getenv("HIDE_BITS"), name[4];
    if (bits == NULL || getenv("HIDE_SITES") == NULL)
        fail("needs", "HIDE_BITS and HIDE_SITES");
    for (int used; hidden_count < 16; bits += used, hidden_count++) {
        if (sscanf(bits, " %u.%u.%3[a-z]:%x%n", &hidden[hidden_count].leaf,
                   &hidden[hidden_count].subleaf, name, &hidden[hidden_count].bits, &used) != 4)
            break;
        while (hidden[hidden_count].reg < 3 && strcmp(name, NAMES[hidden[hidden_count].reg]) != 0)
            hidden[hidden_count].reg++;
    }
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGILL, &action, NULL);
    return version;
}

unsigned la_objopen(struct link_map *map, Lmid_t list, uintptr_t *cookie) {
    char object[4096], listed[4096];
    unsigned long address;
    (void)list, (void)cookie;
    /* The program itself has no name. */
    if (realpath(map->l_name[0] ? map->l_name : "/proc/self/exe", object) == NULL)
        return 0;
    FILE *sites = fopen(getenv("HIDE_SITES"), "r");
    if (sites == NULL)
        fail("cannot read", getenv("HIDE_SITES"));
    while (fscanf(sites, "%lx %4095[^\n]", &address, listed) == 2)
        if (strcmp(listed, object) == 0)
            patch((unsigned char *)map->l_addr + address, object);
    fclose(sites);
    return 0;
}
