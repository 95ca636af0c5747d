"""An SMP/MCUmgr server on a Linux host, with MCUboot's slots as files: a firmware-update target without the device.

It is no MCUmgr client, no boot loader for the host itself, and no simulator of a processor: images are received,
checked, swapped and "booted" to the byte, and never run.

One way through, from packet to slot and back:

    packet ─► transport ─► framing ─► queue ─► Router ──► hooks (veto) ─► group method ─► SlotStore ─► flash files
    (bytes)   ble udp tty  per peer   Worker   table      DFU lock        typed body      MCUboot's rules
    packet ◄─ transport ◄─ split(size) ◄─ outbox per link ◄─ reply bytes ◄─ Body or Refusal ◄──────────┘

One asyncio process: each transport has its tasks, and *one* worker serves requests one at a time in the order of
their arrival, as Zephyr's work queue does, so that handlers hold no locks. Work over about 10 ms (erase, hash, swap)
leaves the loop by `asyncio.to_thread`. A peer that is slow, silent or gone costs only itself: it has its own
reassembly buffer, capped and timed, and its own outbox.

Layers, imports pointing down only (import-linter in scripts/check holds them to it):

    cli                  commands; `render` draws, the others collect values; nobody below prints, exits or knows click
    server               the composition root: builds everything from a Config, owns the reset
    modules              nRF Desktop's modules by their names: who may update, how long, what is confirmed
    groups, transport    Zephyr's command groups | UDP, serial, Bluetooth LE; siblings that never import each other
    dispatch             Router, Worker, Group, Hooks, EventManager, DfuLock, Statistics
    store                slots, upload session, settings and their files; what is durable when; files for clients
    wire, mcuboot        SMP's bytes | MCUboot's world; siblings; no sockets, no event loop
    plugins, config_text entry points | the configuration as text: documentation, example, values
    config               the TOML file (group_config has the sections of groups, hook_config of hooks)
    errors               one tree; each error says who is at fault

Main types, and where to start reading:

    wire.header.Header, wire.body.Body      frozen values; a body's field names are its CBOR keys, None is absent
    dispatch.group.Group, @read, @write     the table of commands: one decorated method a command
    dispatch.router.Router                  table, hooks, and the one place where an exception becomes an answer
    dispatch.peer.Peer, Link                who speaks (stable over reconnections), and one connection of theirs
    dispatch.lock.DfuLock                   one updater at a time, across tasks and processes
    store.slots.SlotStore                   all that can be done to the slots; its docstring says what is synced when
    store.settings.Settings                 values by name, in use and in storage
    store.mount.Mount                       a folder as a file system, and no path leaves it
    mcuboot.boot.Bootloader                 boot() -> BootResult; runs at start and at each reset
    mcuboot.flash.FlashArea                 a slot as flash: sectors, alignment, an operation counter, power cuts
    transport.base.Transport                open, online, offline, close
    server.Server                           run() until cancelled

What decides, where it is not obvious:

- Flash to the byte. A slot's file is what the same device's flash dump would be, so imgtool reads it, a dump from a
  device can be dropped in, and an interrupted swap is resumed as MCUboot resumes it.
- A reset is virtual: reply, 250 ms, links dropped for real while the boot loader runs, back with the same address and
  handles. What a device forgets at a reset is forgotten; what is on flash stays.
- Durable, and fast. What was answered survives `kill -9`; against a power cut of the host, state changes are synced
  before their answer and an upload goes on from what was synced. A swap is computed in memory by the byte-true engine
  and committed by one rename.
- Every peer owns the DFU lock under an identity that outlives its connection; local commands are owners like any
  other.
- Bluetooth input comes by WriteValue, which names the central, and output goes by AcquireNotify's sockets; everything
  that knows bless or D-Bus is in transport.ble.
- Safe by default: Bluetooth wants an encrypted link, UDP listens on loopback.
- Groups and hooks come in by entry points (`plugins`), our groups by the same ones as other people's. A hook that takes
  time, such as a program of `[[hook]]`, keeps the worker waiting and never the event loop.
"""

__version__ = "0.1.0"
