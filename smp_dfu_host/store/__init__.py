"""The slots of a device as files, and the upload session that fills one of them; no sockets, no event loop.

From the bottom up:

    layout, files, commit       which files; written whole and synced; several replaced as one
    faults, state, upload_record    refusals by name; what outlives the process beside the slots
    listing, schedule           what an image list shows; what may be asked of it now
    factory, creation           the first image; the first start
    slot_files, slots           the slots as flash; `SlotStore`, what may be done with them
    admission, upload           the checks of an upload; its session
    occupancy                   one server a store
    survey                      what lies where in a slot, for pictures
"""
