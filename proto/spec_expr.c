/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spec_expr: ${…} in a text.
 *
 *   expression = term {("+" | "-") term}        term = factor {("*" | "/" | "//") factor}
 *   factor     = "-" factor | number | name | function "(" expression {"," expression} ")" | "(" expression ")"
 *   function   = min | max | sqrt
 *
 * Integers stay integers: + - * of two, // (rounded down), and / and sqrt where the result is whole; else a double.
 * A name alone may stand for any text; within arithmetic its text must be a number. "$${" is a plain "${".
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/spec_internal.h"

enum { MAX_NAME = 64, MAX_PARENTHESES = 32, MAX_EXPRESSION = 256, MAX_RESULT = 4096 };

typedef struct value {
    spec_value_kind_t kind;
    int64_t integer;
    double number;
    const char *text; /* of a name, as it was looked up; NULL for what was calculated */
} value_t;

typedef struct parser {
    const char *at, *end;
    const spec_scope_t *scope;
    int depth;
} parser_t;

static status_t parser_expression(parser_t *parser, value_t *value_p);

void spec_format_double(double value, char text[32])
{
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, 32, "%.*g", digits, value);
        if (strtod(text, NULL) == value) { /* exact: the text must read back as the same bits */
            return;
        }
    }
}

static value_t value_integer(int64_t integer)
{
    return (value_t){.kind = SPEC_VALUE_INT, .integer = integer, .number = (double)integer};
}

static value_t value_double(double number)
{
    return (value_t){.kind = SPEC_VALUE_DOUBLE, .number = number};
}

static value_t value_of_text(const char *text)
{
    char *end = NULL;
    if (isdigit((unsigned char)text[0]) || ((text[0] == '-' || text[0] == '+') && isdigit((unsigned char)text[1])) ||
        text[0] == '.') {
        errno = 0;
        long long integer = strtoll(text, &end, 10);
        if (end != text && *end == '\0' && errno == 0) {
            return (value_t){.kind = SPEC_VALUE_INT, .integer = integer, .number = (double)integer, .text = text};
        }
        if (strspn(text, "+-.0123456789eE") == strlen(text)) {
            double number = strtod(text, &end);
            if (end != text && *end == '\0' && isfinite(number)) {
                return (value_t){.kind = SPEC_VALUE_DOUBLE, .number = number, .text = text};
            }
        }
    }
    return (value_t){.kind = SPEC_VALUE_TEXT, .text = text};
}

static void parser_space(parser_t *parser)
{
    while (parser->at < parser->end && isspace((unsigned char)*parser->at)) {
        parser->at++;
    }
}

static bool parser_takes(parser_t *parser, const char *token)
{
    parser_space(parser);
    size_t length = strlen(token);
    if ((size_t)(parser->end - parser->at) < length || strncmp(parser->at, token, length) != 0) {
        return false;
    }
    parser->at += length;
    return true;
}

static status_t parser_expect(parser_t *parser, const char *token)
{
    if (parser_takes(parser, token)) {
        return ST_OK;
    }
    if (parser->at == parser->end) {
        return ST_FAIL(ST_ERR_PARSE, "expected \"%s\" at its end", token);
    }
    return ST_FAIL(ST_ERR_PARSE, "expected \"%s\" before \"%.*s\"", token, (int)(parser->end - parser->at), parser->at);
}

static status_t value_need_number(const value_t *value)
{
    if (value->kind == SPEC_VALUE_TEXT) {
        return ST_FAIL(ST_ERR_PARSE, "\"%.60s\" isn't a number", value->text);
    }
    return ST_OK;
}

static status_t value_combine(char sign, const value_t *a, const value_t *b, value_t *value_p)
{
    status_t status = value_need_number(a);
    status = status == ST_OK ? value_need_number(b) : status;
    if (status != ST_OK) {
        return status;
    }
    bool are_integers = a->kind == SPEC_VALUE_INT && b->kind == SPEC_VALUE_INT;
    bool divides = sign == '/' || sign == 'f';
    if (divides && (are_integers ? b->integer == 0 : b->number == 0)) { /* exact zero only */
        return ST_FAIL(ST_ERR_PARSE, "division by zero");
    }
    if (are_integers) {
        int64_t result = 0;
        bool overflows = false;
        bool is_whole = true;
        if (sign == '+') {
            overflows = __builtin_add_overflow(a->integer, b->integer, &result);
        } else if (sign == '-') {
            overflows = __builtin_sub_overflow(a->integer, b->integer, &result);
        } else if (sign == '*') {
            overflows = __builtin_mul_overflow(a->integer, b->integer, &result);
        } else if (a->integer == INT64_MIN && b->integer == -1) {
            overflows = true;
        } else {
            int64_t remainder = a->integer % b->integer;
            result = a->integer / b->integer;
            is_whole = sign == 'f' || remainder == 0;
            if (sign == 'f' && remainder != 0 && (remainder < 0) != (b->integer < 0)) {
                result--;
            }
        }
        if (overflows) {
            return ST_FAIL(ST_ERR_PARSE, "the result doesn't fit into 64 bits");
        }
        if (is_whole) {
            *value_p = value_integer(result);
            return ST_OK;
        }
    }
    double x = a->number;
    double y = b->number;
    double result = sign == '+' ? x + y : sign == '-' ? x - y : sign == '*' ? x * y : x / y;
    result = sign == 'f' ? floor(result) : result;
    if (!isfinite(result)) {
        return ST_FAIL(ST_ERR_PARSE, "the result isn't finite");
    }
    *value_p = value_double(result);
    return ST_OK;
}

static status_t function_sqrt(const value_t *argument, value_t *value_p)
{
    if (argument->number < 0) {
        return ST_FAIL(ST_ERR_PARSE, "sqrt of a negative number");
    }
    double root = sqrt(argument->number);
    int64_t whole = root < 3e9 ? (int64_t)root : 0;
    bool is_whole = argument->kind == SPEC_VALUE_INT && whole * whole == argument->integer;
    *value_p = is_whole ? value_integer(whole) : value_double(root);
    return ST_OK;
}

static status_t parser_function(parser_t *parser, const char *name, value_t *value_p)
{
    bool is_sqrt = strcmp(name, "sqrt") == 0;
    bool is_max = strcmp(name, "max") == 0;
    if (!is_sqrt && !is_max && strcmp(name, "min") != 0) {
        return ST_FAIL(ST_ERR_PARSE, "unknown function \"%s\": min, max and sqrt are known", name);
    }
    value_t best = {0};
    int n_arguments = 0;
    do {
        value_t argument = {0};
        status_t status = parser_expression(parser, &argument);
        status = status == ST_OK ? value_need_number(&argument) : status;
        if (status != ST_OK) {
            return status;
        }
        if (n_arguments == 0 || (is_max ? argument.number > best.number : argument.number < best.number)) {
            best = argument;
        }
        n_arguments++;
    } while (parser_takes(parser, ","));
    status_t status = parser_expect(parser, ")");
    if (status != ST_OK) {
        return status;
    }
    if (!is_sqrt) {
        *value_p = best;
        return ST_OK;
    }
    return n_arguments == 1 ? function_sqrt(&best, value_p) : ST_FAIL(ST_ERR_PARSE, "sqrt takes one number");
}

static status_t parser_name(parser_t *parser, value_t *value_p)
{
    char name[MAX_NAME + 1];
    size_t length = 0;
    while (parser->at < parser->end && (isalnum((unsigned char)*parser->at) || *parser->at == '_')) {
        if (length == MAX_NAME) {
            return ST_FAIL(ST_ERR_PARSE, "a name longer than %d characters", MAX_NAME);
        }
        name[length++] = *parser->at++;
    }
    name[length] = '\0';
    if (parser_takes(parser, "(")) {
        return parser_function(parser, name, value_p);
    }
    const char *text = parser->scope->lookup(parser->scope->arg, name);
    if (text == NULL) {
        char hint[128];
        spec_suggest(name, parser->scope->names, parser->scope->n_names, hint);
        return ST_FAIL(ST_ERR_PARSE, "unknown name \"%s\"%s", name, hint);
    }
    *value_p = value_of_text(text);
    return ST_OK;
}

static status_t parser_number(parser_t *parser, value_t *value_p)
{
    char text[MAX_NAME + 1];
    size_t length = 0;
    while (parser->at < parser->end && length < MAX_NAME) {
        char c = *parser->at;
        bool is_sign = (c == '-' || c == '+') && length > 0 && tolower((unsigned char)text[length - 1]) == 'e';
        if (!isalnum((unsigned char)c) && c != '.' && !is_sign) {
            break;
        }
        text[length++] = c;
        parser->at++;
    }
    text[length] = '\0';
    *value_p = value_of_text(text);
    if (value_p->kind == SPEC_VALUE_TEXT) {
        return ST_FAIL(ST_ERR_PARSE, "\"%s\" isn't a number", text);
    }
    value_p->text = NULL;
    return ST_OK;
}

static status_t parser_factor(parser_t *parser, value_t *value_p)
{
    if (parser->depth >= MAX_PARENTHESES) {
        return ST_FAIL(ST_ERR_PARSE, "nested deeper than %d", MAX_PARENTHESES);
    }
    parser_space(parser);
    if (parser->at == parser->end) {
        return ST_FAIL(ST_ERR_PARSE, "a value is missing at its end");
    }
    parser->depth++;
    status_t status = ST_OK;
    char c = *parser->at;
    if (parser_takes(parser, "-")) {
        value_t operand = {0};
        value_t zero = value_integer(0);
        status = parser_factor(parser, &operand);
        status = status == ST_OK ? value_combine('-', &zero, &operand, value_p) : status;
    } else if (parser_takes(parser, "(")) {
        status = parser_expression(parser, value_p);
        status = status == ST_OK ? parser_expect(parser, ")") : status;
    } else if (isdigit((unsigned char)c) || c == '.') {
        status = parser_number(parser, value_p);
    } else if (isalpha((unsigned char)c) || c == '_') {
        status = parser_name(parser, value_p);
    } else {
        status =
            ST_FAIL(ST_ERR_PARSE, "a value is missing before \"%.*s\"", (int)(parser->end - parser->at), parser->at);
    }
    parser->depth--;
    return status;
}

static status_t parser_term(parser_t *parser, value_t *value_p)
{
    status_t status = parser_factor(parser, value_p);
    while (status == ST_OK) {
        char sign = parser_takes(parser, "//") ? 'f' : parser_takes(parser, "/") ? '/' : '*';
        if (sign == '*' && !parser_takes(parser, "*")) {
            break;
        }
        value_t left = *value_p;
        value_t right = {0};
        status = parser_factor(parser, &right);
        status = status == ST_OK ? value_combine(sign, &left, &right, value_p) : status;
    }
    return status;
}

static status_t parser_expression(parser_t *parser, value_t *value_p)
{
    status_t status = parser_term(parser, value_p);
    while (status == ST_OK) {
        char sign = parser_takes(parser, "+") ? '+' : '-';
        if (sign == '-' && !parser_takes(parser, "-")) {
            break;
        }
        value_t left = *value_p;
        value_t right = {0};
        status = parser_term(parser, &right);
        status = status == ST_OK ? value_combine(sign, &left, &right, value_p) : status;
    }
    return status;
}

static status_t expression_append(const char *begin, const char *end, const spec_scope_t *scope, strbuf_t *result)
{
    if (end - begin > MAX_EXPRESSION) {
        return ST_FAIL(ST_ERR_PARSE, "${…} longer than %d characters", MAX_EXPRESSION);
    }
    parser_t parser = {.at = begin, .end = end, .scope = scope};
    value_t value = {0};
    status_t status = parser_expression(&parser, &value);
    parser_space(&parser);
    if (status == ST_OK && parser.at != end) {
        status = ST_FAIL(ST_ERR_PARSE, "unexpected \"%.*s\"", (int)(end - parser.at), parser.at);
    }
    if (status != ST_OK) {
        return status_add_context(status, "${%.*s}", (int)(end - begin), begin);
    }
    char text[32];
    if (value.text != NULL) { /* a name alone: its text as it is */
        strbuf_append(result, value.text);
    } else if (value.kind == SPEC_VALUE_INT) {
        strbuf_appendf(result, "%lld", (long long)value.integer);
    } else {
        spec_format_double(value.number, text);
        strbuf_append(result, text);
    }
    return ST_OK;
}

status_t spec_expr_substitute(const char *text, const spec_scope_t *scope, strbuf_t *result, bool *is_whole_p)
{
    *is_whole_p = false;
    const char *at = text;
    while (*at != '\0') {
        if (strncmp(at, "$${", 3) == 0) {
            strbuf_append(result, "${");
            at += 3;
            continue;
        }
        if (strncmp(at, "${", 2) != 0) {
            strbuf_append_char(result, *at++);
            continue;
        }
        const char *end = strchr(at, '}');
        if (end == NULL) {
            return ST_FAIL(ST_ERR_PARSE, "\"%.60s\" has no closing }", at);
        }
        status_t status = expression_append(at + 2, end, scope, result);
        if (status != ST_OK) {
            return status;
        }
        *is_whole_p = at == text && end[1] == '\0';
        at = end + 1;
        if (result->length > MAX_RESULT) {
            return ST_FAIL(ST_ERR_PARSE, "longer than %d characters after ${…} is replaced", MAX_RESULT);
        }
    }
    return result->is_failed ? ST_FAIL(ST_ERR_NOMEM, "text of a job") : ST_OK;
}
