/* SPDX-License-Identifier: MIT */
/* Variables of the environment: for diagnosis only, never for policy. They are read once, when the library is
 * loaded, without allocating; a name or a value that is not known is said on stderr, by each process that
 * reads it. Set-user-ID programs and the like read none. */
#define _GNU_SOURCE
#include <hakmem/hakmem.h>
#include <hakmem/stats.h>

#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "core/environment.h"
#include "core/kernel.h"
#include "core/os.h"
#include "core/text.h"

static void to_file(const char *text, size_t length, void *file)
{
    os_write(*(int *)file, text, length);
}

/* Where statistics go: many programs close their stderr when they end, to see whether all was written. */
static int stats_file = STDERR_FILENO;

static enum { STATS_NONE, STATS_TABLE, STATS_JSON } stats_wanted;

static bool is_off(const char *value)
{
    return value[0] == '\0' || strcmp(value, "0") == 0;
}

/* HAKMEM_VERSION=1: the line of hak_config() on stderr. */
static bool read_version(const char *value)
{
    if (strcmp(value, "1") != 0)
        return is_off(value);
    os_write_error(hak_config(), strlen(hak_config()));
    os_write_error("\n", 1);
    return true;
}

/* HAKMEM_STATS=1 or json: statistics on stderr when the process ends. */
static bool read_stats(const char *value)
{
    if (strcmp(value, "1") == 0)
        stats_wanted = STATS_TABLE;
    else if (strcmp(value, "json") == 0)
        stats_wanted = STATS_JSON;
    else
        return is_off(value);
    long copy = kernel_duplicate(STDERR_FILENO, 100);
    stats_file = copy >= 0 ? (int)copy : STDERR_FILENO;
    return true;
}

static const struct variable {
    const char *name;
    bool (*read)(const char *value); /* false: ill-formed */
} variables[] = {
    {"HAKMEM_VERSION=", read_version},
    {"HAKMEM_STATS=", read_stats},
};

/* What the project's own tests and benchmarks tell each other is not for the library, nor what the recorder reads. */
static const char *const others[] = {"HAKMEM_TEST_", "HAKMEM_BENCH_", "HAKMEM_RECORD="};

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static void complain(const char *setting, const char *what)
{
    int file = STDERR_FILENO;
    struct hak_text text = {.write = to_file, .context = &file};

    hak_text_add(&text, "hakmem: ");
    hak_text_add(&text, what);
    hak_text_add(&text, setting);
    hak_text_add(&text, "\n");
    hak_text_end(&text);
}

static void read_setting(const char *setting)
{
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        if (begins_with(setting, others[i]))
            return;
    for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++) {
        const struct variable *variable = &variables[i];
        if (!begins_with(setting, variable->name))
            continue;
        if (!variable->read(setting + strlen(variable->name)))
            complain(setting, "ill-formed variable of the environment: ");
        return;
    }
    complain(setting, "unknown variable of the environment: ");
}

void hak_environment_read(void)
{
    if (getauxval(AT_SECURE) != 0 || environ == NULL)
        return;
    for (char **setting = environ; *setting; setting++)
        if (begins_with(*setting, "HAKMEM_"))
            read_setting(*setting);
}

__attribute__((destructor)) static void say_at_end(void)
{
    if (stats_wanted == STATS_TABLE)
        hak_stats_print(stats_file);
    else if (stats_wanted == STATS_JSON)
        hak_stats_json(to_file, &stats_file);
}
