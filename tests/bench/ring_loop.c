/* One fixed frame through a TPACKET_V2 transmit ring, over and over: what the wire carries at most.
 *
 * The ring has the geometry of scanner/transport/ring.py. The frame is written into every slot once;
 * from then on only the status words change hands, so nothing is computed and nothing is copied here.
 *
 *     ring_loop INTERFACE FRAME_AS_HEX COUNT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { SLOT = 128, BLOCK = 256 * 1024, BLOCKS = 32, SLOTS = BLOCKS * (BLOCK / SLOT) };

static void need(int holds, const char *what)
{
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static struct tpacket2_hdr *slot(char *ring, long index)
{
    return (struct tpacket2_hdr *)(ring + (index % SLOTS) * SLOT);
}

static void fill(char *ring, const char *hex)
{
    size_t length = strlen(hex) / 2;
    need(length <= SLOT - (TPACKET2_HDRLEN - sizeof(struct sockaddr_ll)), "frame too long");
    for (long i = 0; i < SLOTS; i++) {
        char *data = (char *)slot(ring, i) + TPACKET2_HDRLEN - sizeof(struct sockaddr_ll);
        for (size_t byte = 0; byte < length; byte++) {
            unsigned value;
            need(sscanf(hex + 2 * byte, "%2x", &value) == 1, "not hex");
            data[byte] = (char)value;
        }
        slot(ring, i)->tp_len = (unsigned)length;
    }
}

static char *open_ring(int fd, const char *interface)
{
    int version = TPACKET_V2, on = 1;
    struct tpacket_req geometry = {.tp_block_size = BLOCK, .tp_block_nr = BLOCKS, .tp_frame_size = SLOT, .tp_frame_nr = SLOTS};
    struct sockaddr_ll where = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(interface)};
    need(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) == 0, "PACKET_VERSION");
    need(setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &geometry, sizeof geometry) == 0, "PACKET_TX_RING");
    need(setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) == 0, "PACKET_QDISC_BYPASS");
    need(bind(fd, (struct sockaddr *)&where, sizeof where) == 0, "bind");
    char *ring = mmap(NULL, (size_t)BLOCKS * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    need(ring != MAP_FAILED, "mmap");
    return ring;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: ring_loop INTERFACE FRAME_AS_HEX COUNT\n");
        return 2;
    }
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    need(fd >= 0, "socket");
    char *ring = open_ring(fd, argv[1]);
    fill(ring, argv[2]);
    long count = atol(argv[3]), head = 0;
    while (head < count) {
        for (long room = SLOTS; room && head < count; room--, head++) {
            volatile unsigned *status = &slot(ring, head)->tp_status;
            if (*status != TP_STATUS_AVAILABLE)
                break;
            *status = TP_STATUS_SEND_REQUEST;
        }
        if (send(fd, NULL, 0, 0) < 0)
            need(errno == ENOBUFS || errno == EAGAIN || errno == EINTR, "send");
    }
    for (long i = 0; i < SLOTS; i++) /* what is left in the ring */
        while (*(volatile unsigned *)&slot(ring, i)->tp_status == TP_STATUS_SEND_REQUEST)
            send(fd, NULL, 0, 0);
    return 0;
}
