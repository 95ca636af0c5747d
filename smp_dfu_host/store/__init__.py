"""The slots of a device as files, and the upload session that fills one of them; no sockets, no event loop.

From the bottom up:

    layout, files, commit       which files; written whole and synced; several replaced as one
    reasons                     why one of them cannot be used, in a few words
    faults, state, upload_record    refusals by name; what outlives the process beside the slots
    listing, schedule           what an image list shows; what may be asked of it now
    build, outlook              the configured boot loader; what its next boot runs, by marks and versions
    fitness                     what it would refuse: validation on arrival
    factory, suitability, creation  the first image; flash that suits the mode; the first start
    history                     what the boot loader did at each boot
    incoming                    what is to be put into a slot
    slot_files, slots           the slots as flash; `SlotStore`, what may be done with them
    admission, upload           the checks of an upload; its session
    occupancy                   one server a store
    survey, compare             what lies where in a slot, and what differs between two, for pictures
    rules, explain              which of MCUboot's rules decides; what a reset, a test, a confirm would do
    cuts                        the power cut at each flash operation of a boot
    image_files, judgement      raw bytes, Intel HEX, packages for the phone apps
    output                      files that are asked for, anywhere
"""
