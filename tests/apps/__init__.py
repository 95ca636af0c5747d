"""The phone apps' side of an update, replayed against real servers in this process.

Small clients that send what Nordic's Device Manager apps send, in their order, with their time limits, their windows
and their reactions to what comes back; for Android and for iOS. Between them and the server lies a radio link that
cuts frames, takes its time for each, and can lose some. Time that nobody needs is skipped (`clock`), so that an
app's ten seconds of waiting cost nothing, while what the server really takes still counts.
"""
