/* chip.h - what the simulated processor is: EPYC of the Genoa line with the firmware of mid 2026. */
#ifndef TUNNEL_ATTEST_SIMULATED_CHIP_H
#define TUNNEL_ATTEST_SIMULATED_CHIP_H

enum {
    SIMULATED_BOOTLOADER = 10,
    SIMULATED_TEE = 0,
    SIMULATED_SNP = 23,
    SIMULATED_MICROCODE = 84,
    SIMULATED_FAMILY = 0x19,
    SIMULATED_MODEL = 0x11,
    SIMULATED_STEPPING = 0x01,
};

#endif
