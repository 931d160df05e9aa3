"""Where state lives: one folder an engine, each answering ports by files of the ports' names.

    embedded    one folder of this machine and this process's memory; what `holdfast up` runs, and enough for one process
    postgres    everything durable, for several processes
    redis       what is shared by the minute, for several processes

An engine may lack a port; it may not half-implement one. All pass the same suites, in tests/contracts.
"""
