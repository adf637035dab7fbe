/* One fixed frame through an AF_XDP socket in copy mode, over and over: what the wire carries at most that way.
 *
 * The memory and the rings have the geometry of scanner/transport/xdp.py. The frame is written into every slot once;
 * from then on only the ring's counters move, so nothing is computed and nothing is copied here.
 *
 *     xdp_loop INTERFACE QUEUE FRAME_AS_HEX COUNT
 */
#include <errno.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9
#endif

enum { SLOT = 128, CHUNK = 2048, SLOTS = 32768 };

static void need(int holds, const char *what)
{
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static char *memory_with(const char *hex)
{
    size_t length = strlen(hex) / 2;
    char *memory = mmap(NULL, SLOTS * SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    need(memory != MAP_FAILED && length <= SLOT, "memory");
    for (size_t byte = 0; byte < length; byte++) {
        unsigned value;
        need(sscanf(hex + 2 * byte, "%2x", &value) == 1, "not hex");
        for (long i = 0; i < SLOTS; i++)
            memory[i * SLOT + byte] = (char)value;
    }
    return memory;
}

static void bind_to(int fd, char *memory, const char *interface, const char *queue)
{
    struct xdp_umem_reg umem = {.addr = (uintptr_t)memory, .len = SLOTS * SLOT, .chunk_size = CHUNK};
    struct sockaddr_xdp where = {.sxdp_family = AF_XDP, .sxdp_flags = XDP_COPY};
    int slots = SLOTS, one = 1;
    where.sxdp_ifindex = if_nametoindex(interface);
    where.sxdp_queue_id = (unsigned)atoi(queue);
    need(setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &umem, sizeof umem) == 0, "XDP_UMEM_REG");
    need(setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &one, sizeof one) == 0, "XDP_UMEM_FILL_RING");
    need(setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &slots, sizeof slots) == 0, "XDP_UMEM_COMPLETION_RING");
    need(setsockopt(fd, SOL_XDP, XDP_TX_RING, &slots, sizeof slots) == 0, "XDP_TX_RING");
    setsockopt(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &slots, sizeof slots); /* Linux 6.17 */
    need(bind(fd, (struct sockaddr *)&where, sizeof where) == 0, "bind");
}

static char *ring_at(int fd, off_t place, size_t size)
{
    char *ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, place);
    need(ring != MAP_FAILED, "mmap");
    return ring;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: xdp_loop INTERFACE QUEUE FRAME_AS_HEX COUNT\n");
        return 2;
    }
    int fd = socket(AF_XDP, SOCK_RAW, 0);
    need(fd >= 0, "socket");
    bind_to(fd, memory_with(argv[3]), argv[1], argv[2]);
    struct xdp_mmap_offsets at;
    socklen_t size = sizeof at;
    need(getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &at, &size) == 0, "XDP_MMAP_OFFSETS");
    char *tx = ring_at(fd, XDP_PGOFF_TX_RING, at.tx.desc + SLOTS * sizeof(struct xdp_desc));
    char *done = ring_at(fd, XDP_UMEM_PGOFF_COMPLETION_RING, at.cr.desc + SLOTS * sizeof(uint64_t));
    struct xdp_desc *frame = (struct xdp_desc *)(tx + at.tx.desc);
    for (long i = 0; i < SLOTS; i++)
        frame[i] = (struct xdp_desc){.addr = (uint64_t)i * SLOT, .len = (unsigned)(strlen(argv[3]) / 2)};
    uint32_t *producer = (uint32_t *)(tx + at.tx.producer), *taken = (uint32_t *)(done + at.cr.consumer);
    uint32_t *finished = (uint32_t *)(done + at.cr.producer);
    long count = atol(argv[4]), handed = 0;
    while (handed < count || __atomic_load_n(finished, __ATOMIC_ACQUIRE) != (uint32_t)count) {
        __atomic_store_n(taken, __atomic_load_n(finished, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
        long room = SLOTS - (uint32_t)((uint32_t)handed - *taken);
        handed += room < count - handed ? room : count - handed;
        __atomic_store_n(producer, (uint32_t)handed, __ATOMIC_RELEASE);
        if (sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0)
            need(errno == EAGAIN || errno == EBUSY || errno == EINTR || errno == ENOBUFS, "sendto");
    }
    return 0;
}
