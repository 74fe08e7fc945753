/* policy_sample.h - a policy text that is good in every field; tests change one thing at a time. */
#ifndef TESTS_UNIT_POLICY_SAMPLE_H
#define TESTS_UNIT_POLICY_SAMPLE_H

#define HEX16 "00112233445566778899aabbccddeeff"
#define HEX32 HEX16 "ffeeddccbbaa99887766554433221100"
#define HEX48 HEX32 HEX16
#define HEX64 HEX32 "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"

__attribute__((unused)) static const char policy_sample[] =
    "version = 7;\n"
    "not_before = \"2026-11-01T00:00:00Z\";\n"
    "not_after = \"2027-02-01T00:00:00Z\";\n"
    "lease_max = \"4h\";\n"
    "version_grace = \"30m\";\n"
    "keyd = [ \"" HEX32 "\" ];\n"
    "fleet = [ \"" HEX32 "\" ];\n"
    "simulated = true;\n"
    "unknown = \"refuse\";\n"
    "min_kem = \"x25519\";\n"
    "models = ( { name = \"smollm2\"; aliases = [ \"small\" ]; root = \"" HEX64 "\"; key_id = \"" HEX32 "\"; } );\n"
    "programs = {\n"
    "  proxy = { images = ( { tee = \"snp\"; measurement = \"" HEX48 "\"; } ); };\n"
    "  engine = { images = ( { tee = \"tdx\"; measurement = \"" HEX48 "\"; rtmr1 = \"" HEX48 "\"; } );\n"
    "             sandbox_at_release = [ \"no_dumps\" ];\n"
    "             sandbox_at_serving = [ \"no_dumps\", \"seccomp\" ]; };\n"
    "};\n"
    "hardware = {\n"
    "  platforms = ( { line = \"Genoa\"; bootloader = 7; tee = 0; snp = 14; microcode = 72; },\n"
    "                { line = \"tdx\"; worst_status = \"SWHardeningNeeded\"; tcb_date = \"2024-03-13\"; } );\n"
    "  snp_chips = [ \"" HEX64 "\" ];\n"
    "  tdx_instances = [ \"" HEX16 "\" ];\n"
    "};\n"
    "gpus = { min = 0; max = 8; ppcie = true; drivers = [ \"550.90.07\" ]; vbios = [ \"96.00.9F.00.01\" ]; };\n"
    "requests = { endpoints = [ \"chat\", \"models\" ]; features = [ \"stream\", \"seed\" ]; max_context = 2048;\n"
    "  max_output = 512; max_choices = 2; temperature_max = \"1.5\"; top_p_min = \"0.1\"; repetition_max = \"2\";\n"
    "  prefix_cache = \"tenant\"; };\n"
    "tenants = { keys = [ \"" HEX32 "\" ]; max_life = \"7d\"; requests_per_minute = 600; concurrent = 4; };\n"
    "ages = { evidence = \"12h\"; devices = \"1h\"; collateral = \"30d\"; };\n";

__attribute__((unused)) static const char acceptance_sample[] =
    "simulated = true;\n"
    "owners = [ \"" HEX64 "\" ];\n"
    "policy_min = 5;\n"
    "models = [ \"" HEX64 "\" ];\n"
    "unknown = \"refuse\";\n"
    "programs = {\n"
    "  proxy = { images = ( { tee = \"snp\"; measurement = \"" HEX48 "\"; } ); };\n"
    "  engine = { images = ( { tee = \"snp\"; measurement = \"" HEX48 "\"; } ); sandbox = [ \"seccomp\" ]; };\n"
    "};\n"
    "hardware = { platforms = ( { line = \"Genoa\"; snp = 14; } ); };\n"
    "ages = { evidence = \"12h\"; };\n";

#endif
