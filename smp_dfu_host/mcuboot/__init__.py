"""MCUboot to the byte: flash, images, trailers, and what the boot loader decides.

Pure and synchronous; knows flash areas and nothing of where they come from. From the bottom up:

    flash                            areas of sectors, counted operations, power cuts
    image, tlv, verify               headers, TLVs, hashes and signatures
    swap_type, trailer, request      what application and boot loader tell each other
    options, context                 the build; what one boot knows
    update                           the common flow of modes that change slot 0
      swap_move                      how swap-using-move does it
    direct_xip                       the flow of modes that pick a slot
    boot                             `Bootloader`, which puts a flow and a mode together
"""
