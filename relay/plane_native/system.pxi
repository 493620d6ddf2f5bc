# What the kernel and the C library give us. Linux only: elsewhere the extension is not built.

from libc.errno cimport EAGAIN, EIO, ENOBUFS, errno
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

cdef extern from "<netinet/in.h>" nogil:
    int AF_INET
    int AF_INET6
    ctypedef uint32_t socklen_t
    cdef struct in_addr:
        uint32_t s_addr
    cdef struct in6_addr:
        uint8_t s6_addr[16]
    cdef struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    cdef struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr
    cdef struct sockaddr_storage:
        uint16_t ss_family
    uint16_t htons(uint16_t)
    uint16_t ntohs(uint16_t)

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int family, const char *text, void *address)
    const char *inet_ntop(int family, const void *address, char *text, socklen_t size)

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    cdef struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    cdef struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    cdef struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    int MSG_DONTWAIT
    int MSG_TRUNC
    int SOL_SOCKET
    cmsghdr *CMSG_FIRSTHDR(msghdr *)
    cmsghdr *CMSG_NXTHDR(msghdr *, cmsghdr *)
    uint8_t *CMSG_DATA(cmsghdr *)
    size_t CMSG_LEN(size_t)
    size_t CMSG_SPACE(size_t)
    int recvmmsg(int descriptor, mmsghdr *messages, unsigned int count, int flags, void *timeout)
    int sendmmsg(int descriptor, mmsghdr *messages, unsigned int count, int flags)
    ssize_t sendmsg(int descriptor, const msghdr *message, int flags)
    int setsockopt(int descriptor, int level, int option, const void *value, socklen_t size)

cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    int POLLIN
    int poll(pollfd *asked, unsigned long count, int timeout_ms)

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        int64_t tv_sec
        int64_t tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)

cdef extern from "<sys/mman.h>" nogil:
    int madvise(void *begin, size_t length, int advice)

cdef extern from *:
    """
    #include <stdlib.h>
    #include <string.h>
    #if defined(__SSE2__)
    #include <emmintrin.h>
    /* 16 bytes and then others, to a place that is not read again soon and begins with a line of the cache: past the
       cache, which other things need more. Lines are written as a whole, the last one filled up. */
    static inline void turnpike_copy_aside(void *to, const void *head, const void *from, size_t length) {
        __m128i *t = (__m128i *)to, tail = _mm_setzero_si128();
        const __m128i *f = (const __m128i *)from;
        _mm_stream_si128(t++, _mm_loadu_si128((const __m128i *)head));
        for (; length >= 16; length -= 16) _mm_stream_si128(t++, _mm_loadu_si128(f++));
        memcpy(&tail, f, length);
        if (length) _mm_stream_si128(t++, tail);
        for (; (size_t)t & 63; t++) _mm_stream_si128(t, tail);
    }
    #else
    static inline void turnpike_copy_aside(void *to, const void *head, const void *from, size_t length) {
        memcpy(to, head, 16);
        memcpy((char *)to + 16, from, length);
    }
    #endif
    #if defined(__SANITIZE_ADDRESS__) && !defined(TURNPIKE_KEPT_TOGETHER)
    #define TURNPIKE_EXACT_BLOCKS 1  /* so that a byte read beyond a packet is found */
    #else
    #define TURNPIKE_EXACT_BLOCKS 0
    #endif
    """
    void copy_aside "turnpike_copy_aside"(void *to, const void *head, const void *frm, size_t length) noexcept nogil
    void *aligned_alloc(size_t alignment, size_t size) noexcept nogil
    int EXACT_BLOCKS "TURNPIKE_EXACT_BLOCKS"

cdef enum:
    SOL_UDP = 17
    UDP_SEGMENT = 103
    UDP_GRO = 104
    SCM_TIMESTAMPNS = 35  # as SO_TIMESTAMPNS of relay.plane_sockets

ctypedef int (*srtp_function)(void *session, void *packet, int *length) noexcept nogil
