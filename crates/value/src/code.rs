//! Numbers of networking that people know by name.

/// What a number is taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    /// `AF_*` of `include/linux/socket.h`.
    Family,
    /// `TCP_*` of `include/net/tcp_states.h`.
    TcpState,
}

const FAMILIES: &[(i64, &str)] = &[
    (1, "AF_UNIX"),
    (2, "AF_INET"),
    (10, "AF_INET6"),
    (16, "AF_NETLINK"),
    (17, "AF_PACKET"),
    (40, "AF_VSOCK"),
    (44, "AF_XDP"),
];

const TCP_STATES: &[(i64, &str)] = &[
    (1, "TCP_ESTABLISHED"),
    (2, "TCP_SYN_SENT"),
    (3, "TCP_SYN_RECV"),
    (4, "TCP_FIN_WAIT1"),
    (5, "TCP_FIN_WAIT2"),
    (6, "TCP_TIME_WAIT"),
    (7, "TCP_CLOSE"),
    (8, "TCP_CLOSE_WAIT"),
    (9, "TCP_LAST_ACK"),
    (10, "TCP_LISTEN"),
    (11, "TCP_CLOSING"),
    (12, "TCP_NEW_SYN_RECV"),
    (13, "TCP_BOUND_INACTIVE"),
];

impl Code {
    fn all(self) -> &'static [(i64, &'static str)] {
        match self {
            Code::Family => FAMILIES,
            Code::TcpState => TCP_STATES,
        }
    }

    pub(crate) fn name(self, value: i64) -> Option<&'static str> {
        self.all().iter().find(|(number, _)| *number == value).map(|(_, name)| *name)
    }

    pub(crate) fn value(self, name: &str) -> Option<i64> {
        self.all().iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
    }
}
