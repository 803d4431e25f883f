/* SPDX-License-Identifier: MIT */
/* Environment variables: for diagnosis only, never for policy. They are read once, when the library is loaded, without
 * allocating. An unknown name or value is reported on stderr by each process that reads it. Programs that run with
 * raised privileges (AT_SECURE) read none. */
#define _GNU_SOURCE
#include <hakmem/hakmem.h>
#include <hakmem/stats.h>

#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "core/environment.h"
#include "core/kernel.h"
#include "core/text.h"

/* Where statistics go: a copy of stderr, because many programs close theirs at exit, to detect failed writes. */
static int stats_file = STDERR_FILENO;

static enum { STATS_NONE, STATS_TABLE, STATS_JSON } stats_wanted;

static bool environment_is_off(const char *value)
{
    return value[0] == '\0' || strcmp(value, "0") == 0;
}

/* HAKMEM_VERSION=1: the line of hak_config() on stderr. */
static bool environment_version(const char *value)
{
    if (strcmp(value, "1") != 0)
        return environment_is_off(value);
    hak_write_error(hak_config(), strlen(hak_config()));
    hak_write_error("\n", 1);
    return true;
}

/* HAKMEM_STATS=1 or json: statistics on stderr when the process ends. */
static bool environment_stats(const char *value)
{
    if (strcmp(value, "1") == 0)
        stats_wanted = STATS_TABLE;
    else if (strcmp(value, "json") == 0)
        stats_wanted = STATS_JSON;
    else
        return environment_is_off(value);
    long copy = kernel_duplicate(STDERR_FILENO, 100);
    stats_file = copy >= 0 ? (int)copy : STDERR_FILENO;
    return true;
}

static const struct variable {
    const char *name;
    bool (*read)(const char *value); /* false: ill-formed */
} variables[] = {
    {"HAKMEM_VERSION=", environment_version},
    {"HAKMEM_STATS=", environment_stats},
};

/* Variables of the project's own tests, benchmarks and recorder. */
static const char *const others[] = {"HAKMEM_TEST_", "HAKMEM_BENCH_", "HAKMEM_RECORD="};

static bool environment_begins(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static void environment_complain(const char *setting, const char *what)
{
    int file = STDERR_FILENO;
    struct hak_text text = {.write = hak_write_to_file, .context = &file};

    hak_text_add(&text, "hakmem: ");
    hak_text_add(&text, what);
    hak_text_add(&text, setting);
    hak_text_add(&text, "\n");
    hak_text_end(&text);
}

static void environment_setting(const char *setting)
{
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        if (environment_begins(setting, others[i]))
            return;
    for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++) {
        const struct variable *variable = &variables[i];
        if (!environment_begins(setting, variable->name))
            continue;
        if (!variable->read(setting + strlen(variable->name)))
            environment_complain(setting, "ill-formed variable of the environment: ");
        return;
    }
    environment_complain(setting, "unknown variable of the environment: ");
}

void hak_environment_read(void)
{
    if (getauxval(AT_SECURE) != 0 || environ == NULL)
        return;
    for (char **setting = environ; *setting; setting++)
        if (environment_begins(*setting, "HAKMEM_"))
            environment_setting(*setting);
}

__attribute__((destructor)) static void environment_say_at_end(void)
{
    if (stats_wanted == STATS_TABLE)
        hak_stats_print(stats_file);
    else if (stats_wanted == STATS_JSON)
        hak_stats_json(hak_write_to_file, &stats_file);
}
