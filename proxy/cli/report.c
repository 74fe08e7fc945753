#include "proxy/cli/report.h"

#include "policy/config.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { COLUMN = 22 };

static bool is_scalar(const json_t *v)
{
    return !json_is_object(v) && !json_is_array(v);
}

static bool is_time(const char *key)
{
    static const char *const keys[] = {"at", "expires", "checked_at", "devices_at", "valid_until"};

    for (size_t i = 0; key && i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return false;
}

static void print_scalar(const char *key, const json_t *v)
{
    char date[32];

    if (json_is_string(v)) {
        fputs(json_string_value(v), stdout);
    } else if (json_is_integer(v) && is_time(key) && json_integer_value(v) > 0) {
        policy_date_print((uint64_t)json_integer_value(v), date);
        fputs(date, stdout);
    } else if (json_is_integer(v)) {
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(v));
    } else if (json_is_real(v)) {
        printf("%g", json_real_value(v));
    } else {
        fputs(json_is_null(v) ? "-" : json_is_true(v) ? "yes" : "no", stdout);
    }
}

/* True when everything inside is scalar: it then fits on one line. */
static bool is_flat(json_t *v)
{
    const char *key;
    json_t *item;
    size_t i;

    if (json_is_array(v)) {
        json_array_foreach(v, i, item)
        {
            if (!is_scalar(item))
                return false;
        }
        return true;
    }
    json_object_foreach(v, key, item)
    {
        if (!json_is_integer(item) && !json_is_boolean(item) && !json_is_null(item))
            return false;
    }
    return true;
}

static void print_flat(json_t *v)
{
    const char *comma = "", *key;
    json_t *item;
    size_t i;

    if (json_is_array(v)) {
        json_array_foreach(v, i, item)
        {
            fputs(comma, stdout);
            print_scalar(NULL, item);
            comma = ", ";
        }
    } else {
        json_object_foreach(v, key, item)
        {
            printf("%s%s ", comma, key);
            print_scalar(key, item);
            comma = ", ";
        }
    }
    if (!comma[0])
        fputs("-", stdout);
}

static void print_member(const char *key, json_t *v, int depth)
{
    const char *name;
    json_t *item;
    size_t i;

    printf("%*s%-*s ", 2 * depth, "", COLUMN - 2 * depth, key);
    if (is_scalar(v)) {
        print_scalar(key, v);
    } else if (is_flat(v)) {
        print_flat(v);
    } else if (json_is_object(v)) {
        putchar('\n');
        json_object_foreach(v, name, item) print_member(name, item, depth + 1);
        return;
    } else {
        putchar('\n');
        json_array_foreach(v, i, item) print_member("-", item, depth + 1);
        return;
    }
    putchar('\n');
}

static void print_stages(json_t *stages)
{
    json_t *stage;
    size_t i;

    json_array_foreach(stages, i, stage)
    {
        printf("%2" JSON_INTEGER_FORMAT "  %-20s %-12s %s\n", json_integer_value(json_object_get(stage, "stage")),
               json_string_value(json_object_get(stage, "name")), json_string_value(json_object_get(stage, "result")),
               json_string_value(json_object_get(stage, "value")));
    }
}

void cli_report_print(const char *json)
{
    json_t *root = json_loads(json, 0, NULL), *engines = json_object_get(root, "engines"), *item;
    char title[32];
    size_t i;

    print_stages(json_object_get(root, "stages"));
    if (json_object_get(root, "node"))
        print_member("node", json_object_get(root, "node"), 0);
    json_array_foreach(engines, i, item)
    {
        snprintf(title, sizeof title, "engine %zu", i);
        print_member(title, item, 0);
    }
    json_array_foreach(json_object_get(root, "limits"), i, item) printf("note  %s\n", json_string_value(item));
    json_decref(root);
}
