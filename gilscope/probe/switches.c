#include "switches.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "gilscope."

static const char *const names[] = {"policy", "grace_us", "condvar", "locks", "stacks_us"};
static const char unknown[] =
    "-X gilscope.NAME: a name is policy, grace_us, condvar, locks or stacks_us";

/* Names and values of -X options, "NAME\0VALUE\0" each. */
static char given[2048];
static size_t given_bytes;

static bool is_known(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0)
            return true;
    return false;
}

const char *gs_switch_set(const char *option) {
    if (strncmp(option, PREFIX, strlen(PREFIX)) != 0)
        return NULL;
    const char *name = option + strlen(PREFIX);
    size_t name_length = strcspn(name, "=");
    const char *value = name[name_length] ? name + name_length + 1 : "1";
    size_t value_length = strlen(value);
    if (!is_known(name, name_length) || name_length + value_length + 2 > sizeof given - given_bytes)
        return unknown;
    memcpy(given + given_bytes, name, name_length);
    memcpy(given + given_bytes + name_length + 1, value, value_length);
    given_bytes += name_length + value_length + 2;
    return NULL;
}

const char *gs_switch(const char *name) {
    const char *found = NULL; /* the last one of a name counts */
    for (const char *at = given; at < given + given_bytes; at += strlen(at) + 1) {
        const char *value = at + strlen(at) + 1;
        if (strcmp(at, name) == 0)
            found = value;
        at = value;
    }
    if (found)
        return found;
    char variable[64];
    int n = snprintf(variable, sizeof variable, "GILSCOPE_%s", name);
    if (n < 0 || (size_t)n >= sizeof variable)
        return NULL;
    for (char *c = variable; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    return getenv(variable);
}

bool gs_switch_on(const char *name, bool otherwise) {
    const char *value = gs_switch(name);
    if (!value || !*value)
        return otherwise;
    return strcmp(value, "0") != 0 && strcmp(value, "off") != 0 && strcmp(value, "no") != 0;
}
