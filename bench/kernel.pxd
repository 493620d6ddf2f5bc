# The system calls of the benchmarks' own Cython modules.

from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int CLOCK_REALTIME
    int TIMER_ABSTIME
    int clock_gettime(int, timespec *)
    int clock_nanosleep(int, int, timespec *, timespec *)

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr:
        pass
    struct sockaddr_storage:
        pass
    struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    int MSG_DONTWAIT
    int SOL_SOCKET
    int SO_TIMESTAMPNS
    cmsghdr *CMSG_FIRSTHDR(msghdr *)
    uint8_t *CMSG_DATA(cmsghdr *)
    size_t CMSG_LEN(size_t)
    ssize_t sendto(int, const void *, size_t, int, const sockaddr *, unsigned int)
    int sendmmsg(int, mmsghdr *, unsigned int, int)
    int recvmmsg(int, mmsghdr *, unsigned int, int, timespec *)

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint32_t u32
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int EPOLLIN
    int EPOLL_CTL_ADD
    int EPOLL_CTL_DEL
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    int epoll_wait(int, epoll_event *, int, int)

cdef extern from "<unistd.h>" nogil:
    int close(int)

cdef enum:
    PACKET_BYTES = 1536  # room for one datagram
