/* Answers every SYN that comes in, from a prepared transmit ring: a network that is never the bottleneck's cause.
 *
 * Both rings are TPACKET_V2. Each slot to send holds a finished RST/ACK but for addresses, ports and the number that
 * it acknowledges, which are copied from the SYN. Checksums are left out, as offloading leaves them out on veth pairs.
 * One SYN in `every` is answered with SYN/ACK (0: none). Ends after `quiet` seconds without a SYN.
 *
 *     answer_loop INTERFACE EVERY QUIET
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { SLOT = 256, BLOCK = 256 * 1024, BLOCKS = 128, SLOTS = BLOCKS * (BLOCK / SLOT), BATCH = 512 };
enum { LENGTH = 54, IP = 14, TCP = 34, DATA = TPACKET2_HDRLEN - sizeof(struct sockaddr_ll) };

static void need(int holds, const char *what)
{
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static char *ring_of(int fd, int option, const char *interface, int protocol)
{
    int version = TPACKET_V2, on = 1;
    struct tpacket_req geometry = {.tp_block_size = BLOCK, .tp_block_nr = BLOCKS, .tp_frame_size = SLOT, .tp_frame_nr = SLOTS};
    struct sockaddr_ll where = {
        .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = (int)if_nametoindex(interface)};
    need(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) == 0, "PACKET_VERSION");
    need(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) == 0, "PACKET_IGNORE_OUTGOING");
    need(setsockopt(fd, SOL_PACKET, option, &geometry, sizeof geometry) == 0, "ring");
    if (option == PACKET_TX_RING)
        need(setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) == 0, "PACKET_QDISC_BYPASS");
    char *ring = mmap(NULL, (size_t)BLOCKS * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    need(ring != MAP_FAILED, "mmap");
    need(bind(fd, (struct sockaddr *)&where, sizeof where) == 0, "bind");
    return ring;
}

static struct tpacket2_hdr *slot(char *ring, long index)
{
    return (struct tpacket2_hdr *)(ring + (index % SLOTS) * SLOT);
}

static void prepare(char *ring)
{
    static const uint8_t ip[] = {0x45, 4, 0, 40, 0, 0, 0x40, 0, 64, 6};
    for (long i = 0; i < SLOTS; i++) {
        uint8_t *data = (uint8_t *)slot(ring, i) + DATA;
        memcpy(data + IP, ip, sizeof ip);
        data[12] = 8;
        data[TCP + 12] = 0x50;
        slot(ring, i)->tp_len = LENGTH;
    }
}

/* The answer to a SYN, into a prepared slot; 0 if the frame is no SYN over IPv4. */
static int answer(const uint8_t *syn, uint8_t *data, int open)
{
    if (syn[12] != 8 || syn[13] != 0 || syn[IP] != 0x45 || syn[IP + 9] != 6 || syn[TCP + 13] != 2)
        return 0;
    uint32_t number;
    memcpy(data, syn + 6, 6);
    memcpy(data + 6, syn, 6);
    memcpy(data + IP + 12, syn + IP + 16, 4);
    memcpy(data + IP + 16, syn + IP + 12, 4);
    memcpy(data + TCP, syn + TCP + 2, 2);
    memcpy(data + TCP + 2, syn + TCP, 2);
    memcpy(&number, syn + TCP + 4, 4);
    number = htonl(ntohl(number) + 1);
    memcpy(data + TCP + 8, &number, 4);
    data[TCP + 13] = open ? 0x12 : 0x14;
    data[TCP + 14] = open ? 0xfa : 0;
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: answer_loop INTERFACE EVERY QUIET\n");
        return 2;
    }
    int in = socket(AF_PACKET, SOCK_RAW, 0), out = socket(AF_PACKET, SOCK_RAW, 0);
    need(in >= 0 && out >= 0, "socket");
    char *sent = ring_of(out, PACKET_TX_RING, argv[1], 0), *heard = ring_of(in, PACKET_RX_RING, argv[1], ETH_P_ALL);
    prepare(sent);
    long every = atol(argv[2]), head = 0, tail = 0, answered = 0, waiting = 0;
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct tpacket2_hdr *from = slot(heard, tail), *to = slot(sent, head);
        int ready = *(volatile unsigned *)&from->tp_status & TP_STATUS_USER;
        int room = *(volatile unsigned *)&to->tp_status == TP_STATUS_AVAILABLE;
        if (ready && room) {
            if (answer((uint8_t *)from + from->tp_mac, (uint8_t *)to + DATA, every && answered % every == 0)) {
                __sync_synchronize();
                to->tp_status = TP_STATUS_SEND_REQUEST;
                head++, answered++, waiting++;
            }
            __sync_synchronize();
            from->tp_status = TP_STATUS_KERNEL;
            tail++;
            if (waiting < BATCH)
                continue;
        }
        if (waiting || !room) {
            if (send(out, NULL, 0, 0) < 0)
                need(errno == ENOBUFS || errno == EAGAIN || errno == EINTR, "send");
            waiting = 0;
            continue;
        }
        struct pollfd wait = {.fd = in, .events = POLLIN};
        if (poll(&wait, 1, answered ? atoi(argv[3]) * 1000 : 20000) == 0)
            break;
    }
    struct tpacket_stats stats;
    socklen_t size = sizeof stats;
    getsockopt(in, SOL_PACKET, PACKET_STATISTICS, &stats, &size);
    printf("%ld answered, %u not heard\n", answered, stats.tp_drops);
    return 0;
}
