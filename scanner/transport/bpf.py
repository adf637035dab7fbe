"""The small kernel filter in front of a receive ring.

Classic BPF, assembled here, so that only what may be a reply is copied into the ring: TCP towards our
source ports, ICMP and ICMPv6 (errors quote our probes; neighbour advertisements), and ARP. Port 22
traffic of the machine's own users never reaches us. It is a coarse sieve that saves work: every frame
that passes it is still checked in full.

Later IPv4 fragments and IPv6 packets with extension headers pass: they are rare, and the parser
counts them.

Source: Linux Documentation/networking/filter.rst (opcodes, SKF offsets).
"""

import ctypes
import socket
import struct

SO_ATTACH_FILTER = 26
_LD_H, _LD_B, _LDX_IP, _LD_H_IND = 0x28, 0x30, 0xB1, 0x48
_JEQ, _JGT, _JGE, _JSET, _RET = 0x15, 0x25, 0x35, 0x45, 0x06
ACCEPT, REJECT = 0x40000, 0

Instructions = list[tuple[int, int, int, int]]  # code, jump if true, jump if false, constant


def program(link_bytes: int, first_port: int, last_port: int) -> Instructions:
    """Accept possible replies to ports first_port … last_port, in frames with a link header of 0 or 14 bytes."""
    ip = link_bytes
    ipv4 = _ipv4(ip, first_port, last_port)
    ipv6 = _ipv6(ip, first_port, last_port)
    if not link_bytes:  # the version nibble decides
        is_four: Instructions = [(_LD_B, 0, 0, 0), (_JGE, len(ipv4), 0, 0x60)]
        return [*is_four, *ipv4, *ipv6]
    return [
        (_LD_H, 0, 0, 12),
        (_JEQ, 0, 1, 0x0806),
        (_RET, 0, 0, ACCEPT),
        (_JEQ, 0, len(ipv4), 0x0800),
        *ipv4,
        (_JEQ, 1, 0, 0x86DD),
        (_RET, 0, 0, REJECT),
        *ipv6,
    ]


def _ipv4(ip: int, first: int, last: int) -> Instructions:
    return [
        (_LD_B, 0, 0, ip + 9),
        (_JEQ, 0, 1, 1),
        (_RET, 0, 0, ACCEPT),
        (_JEQ, 1, 0, 6),
        (_RET, 0, 0, REJECT),
        (_LD_H, 0, 0, ip + 6),
        (_JSET, 4, 0, 0x1FFF),  # a later fragment has no ports: let it pass, to be counted
        (_LDX_IP, 0, 0, ip),
        (_LD_H_IND, 0, 0, ip + 2),
        (_JGE, 0, 2, first),
        (_JGT, 1, 0, last),
        (_RET, 0, 0, ACCEPT),
        (_RET, 0, 0, REJECT),
    ]


def _ipv6(ip: int, first: int, last: int) -> Instructions:
    return [
        (_LD_B, 0, 0, ip + 6),
        (_JEQ, 0, 4, 6),
        (_LD_H, 0, 0, ip + 42),
        (_JGE, 0, 3, first),
        (_JGT, 2, 0, last),
        (_RET, 0, 0, ACCEPT),
        (_JEQ, 0, 1, 17),  # everything but UDP may still be an error, an advertisement or an extension header
        (_RET, 0, 0, REJECT),
        (_RET, 0, 0, ACCEPT),
    ]


def attach(sock: socket.socket, instructions: Instructions) -> None:
    """SO_ATTACH_FILTER with struct sock_fprog."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(instructions), ctypes.addressof(buffer)))
