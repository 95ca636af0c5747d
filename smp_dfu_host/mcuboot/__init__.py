"""MCUboot to the byte: flash, images, trailers, and what the boot loader decides.

Pure and synchronous; knows flash areas and nothing of where they come from. From the bottom up:

    flash                             areas of sectors, counted operations, power cuts
    image, tlv, keys                  headers, TLVs, keys
    proofs, verify                    hashes and signatures, computed once a boot; whether an image is valid
    encryption, swap_keys             encrypted payloads and their keys
    swap_type, trailer, request       what application and boot loader tell each other
    options, context                  the build; what one boot knows
    rollback, dependencies            what keeps an image from running
    update, update_mode, slot_check   the flow of the modes that change slot 0; how these do it:
      swap_move, swap_scratch,
      swap_offset, overwrite          with swap_status and units
    direct_xip                        the flow of the modes that pick a slot, with and without revert, ram-load
    single                            single-slot, single-slot-ram-load and firmware-loader
    ram_load                          where in RAM an image goes
    boot                              `Bootloader`, which puts a flow and a mode together

Everything but firmware-loader mode is compared with recordings of the real boot loader, byte by byte and operation by
operation (tests/conformance/mcuboot.py).
"""
