#include "verifier/pck.h"

#include "verifier/der.h"

/* 1.2.840.113741.1.13.1 as DER content; the parts' OIDs continue it by one or two bytes. */
static const uint8_t base[] = {0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01};

/* One {OID, value} of the sequence: the number after `prefix`, 0 when it has another prefix. The value is left in `d`.
 */
static unsigned take_entry(struct der *list, struct span prefix, struct der *value)
{
    struct der entry = der_over(der_take(list, DER_SEQUENCE));
    struct span oid = der_take(&entry, DER_OID);

    *value = entry;
    if (entry.bad || oid.len != prefix.len + 1 || memcmp(oid.data, prefix.data, prefix.len) != 0)
        return 0;
    return oid.data[prefix.len];
}

static bool take_octets(struct der *d, uint8_t *out, size_t len)
{
    struct span s = der_take(d, DER_OCTETS);

    if (d->bad || s.len != len)
        return false;
    memcpy(out, s.data, len);
    return der_end(d);
}

static bool take_bool(struct der *d, bool *out)
{
    struct span s = der_take(d, DER_BOOLEAN);

    if (d->bad || s.len != 1 || (s.data[0] != 0 && s.data[0] != 0xff))
        return false;
    *out = s.data[0] != 0;
    return der_end(d);
}

/* Set bit `n` of `*seen`; false when it was set: nothing may be said twice. */
static bool once(uint32_t *seen, unsigned n)
{
    bool fresh = !(*seen >> n & 1);

    *seen |= 1u << n;
    return fresh;
}

/* A list under the extension's number `part`; false when it is none. */
static bool take_list(struct der *d, uint8_t part, uint8_t prefix[sizeof base + 1], struct der *list)
{
    *list = der_over(der_take(d, DER_SEQUENCE));
    memcpy(prefix, base, sizeof base);
    prefix[sizeof base] = part;
    return !d->bad && der_end(d);
}

/* .2: components 1 to 16, PCESVN 17, CPUSVN 18. */
static bool take_tcb(struct verifier_pck *out, struct der *d)
{
    uint8_t prefix[sizeof base + 1];
    struct der list, value;
    uint32_t seen = 0;

    if (!take_list(d, 2, prefix, &list))
        return false;
    while (!list.bad && list.rest.len > 0) {
        unsigned n = take_entry(&list, span_of(prefix, sizeof prefix), &value);
        uint32_t number = 0;

        if (n < 1 || n > 18 || !once(&seen, n))
            return false;
        if (n == 18) {
            if (!take_octets(&value, out->cpusvn, sizeof out->cpusvn))
                return false;
            continue;
        }
        number = der_uint(&value, DER_INTEGER);
        if (!der_end(&value) || number > (n == 17 ? 0xffffu : 0xffu))
            return false;
        if (n == 17)
            out->pcesvn = (uint16_t)number;
        else
            out->component[n - 1] = (uint8_t)number;
    }
    return !list.bad && seen == 0x7fffe;
}

/* .7: dynamic platform, cached keys, SMT. */
static bool take_configuration(struct verifier_pck *out, struct der *d)
{
    uint8_t prefix[sizeof base + 1];
    struct der list, value;
    uint32_t seen = 0;

    if (!take_list(d, 7, prefix, &list))
        return false;
    while (!list.bad && list.rest.len > 0) {
        unsigned n = take_entry(&list, span_of(prefix, sizeof prefix), &value);

        if (n < 1 || n > 3 || !once(&seen, n) ||
            !take_bool(&value, n == 1   ? &out->dynamic_platform
                               : n == 2 ? &out->cached_keys
                                        : &out->smt))
            return false;
    }
    out->has_configuration = true;
    return !list.bad;
}

static bool take_part(struct verifier_pck *out, unsigned n, struct der *value)
{
    switch (n) {
    case 1:
        return take_octets(value, out->ppid, sizeof out->ppid);
    case 2:
        return take_tcb(out, value);
    case 3:
        return take_octets(value, out->pceid, sizeof out->pceid);
    case 4:
        return take_octets(value, out->fmspc, sizeof out->fmspc);
    case 5:
        out->sgx_type = (uint8_t)der_uint(value, DER_ENUMERATED);
        return der_end(value);
    case 6:
        out->has_instance = true;
        return take_octets(value, out->instance, sizeof out->instance);
    case 7:
        return take_configuration(out, value);
    default: /* a part that later profiles added */
        return true;
    }
}

enum verifier_err verifier_pck_parse(struct verifier_pck *out, struct span extension)
{
    struct der outer = der_over(extension), list, value;
    uint32_t seen = 0;

    memset(out, 0, sizeof *out);
    list = der_over(der_take(&outer, DER_SEQUENCE));
    if (!der_end(&outer))
        return VERIFIER_E_PARSE;
    while (!list.bad && list.rest.len > 0) {
        unsigned n = take_entry(&list, span_of(base, sizeof base), &value);

        if (n < 1 || n > 31 || !once(&seen, n) || !take_part(out, n, &value))
            return VERIFIER_E_PARSE;
    }
    /* PPID, TCB, PCE-ID, FMSPC and SGX type are in every certificate */
    return !list.bad && (seen & 0x3e) == 0x3e ? VERIFIER_OK : VERIFIER_E_PARSE;
}
