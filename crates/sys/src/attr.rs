//! What bpf(2) and perf_event_open(2) take: the members of `union bpf_attr` as structures of their own.
//!
//! Every structure here has no implicit padding (checked when compiling) and is valid for any bytes, so
//! it can be handed to the kernel, and written by it, as it lies in memory.

/// A structure without padding for which all bytes are valid, and whose zero means "nothing".
///
/// # Safety
/// `repr(C)`, no padding, no pointers or other types with invalid values. [`attr!`] checks and promises it.
pub(crate) unsafe trait Plain: Copy {
    const ZERO: Self;
}

/// A scalar or an array of scalars.
pub(crate) trait Zero {
    const ZERO: Self;
}

macro_rules! zero {
    ($($ty:ty = $zero:expr),*) => { $(impl Zero for $ty { const ZERO: Self = $zero; })* };
}
zero!(u8 = 0, u16 = 0, u32 = 0, i32 = 0, u64 = 0, [u8; 8] = [0; 8], [u8; 16] = [0; 16]);

/// One member of `union bpf_attr` (or an info structure), and where BTF has it: the last names of the
/// path are the fields'.
#[doc(hidden)]
pub struct Layout {
    /// `bpf_attr`, `bpf_prog_info`...
    pub root: &'static str,
    /// Path of the member inside of `root`, empty for an anonymous one; several are separated by dots.
    pub path: &'static str,
    /// Bytes before the member in the kernel's structure that are not in ours.
    pub base: usize,
    /// Name, offset, size of each field; names that begin with `_` are padding.
    pub fields: &'static [(&'static str, usize, usize)],
}

/// Two structures, one right behind the other.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Joined<H, T> {
    pub(crate) head: H,
    pub(crate) tail: T,
}

impl<H: Plain, T: Plain> Joined<H, T> {
    const PACKED: () = assert!(size_of::<Self>() == size_of::<H>() + size_of::<T>());
}

// SAFETY: repr(C), both parts are `Plain`, and there is no padding between or behind them (asserted).
unsafe impl<H: Plain, T: Plain> Plain for Joined<H, T> {
    const ZERO: Self = {
        () = Self::PACKED;
        Self { head: H::ZERO, tail: T::ZERO }
    };
}

macro_rules! attr {
    ($(#[$doc:meta])* $name:ident, $root:literal, $path:literal, $base:literal
        { $($field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub(crate) struct $name {
            $(pub(crate) $field: $ty,)*
        }

        // Without this, padding could carry uninitialised bytes to the kernel.
        const _: () = assert!(size_of::<$name>() == 0 $(+ size_of::<$ty>())*);

        // SAFETY: repr(C), without padding (asserted above), all fields are `Zero`: integers or arrays of them.
        unsafe impl Plain for $name {
            const ZERO: Self = Self { $($field: <$ty as Zero>::ZERO,)* };
        }

        impl $name {
            pub(crate) const LAYOUT: Layout = Layout {
                root: $root,
                path: $path,
                base: $base,
                fields: &[$((stringify!($field), std::mem::offset_of!($name, $field), size_of::<$ty>()),)*],
            };
        }
    };
}

macro_rules! attrs {
    ($($(#[$doc:meta])* $name:ident, $root:literal, $path:literal, $base:literal { $($body:tt)* })*) => {
        $(attr! { $(#[$doc])* $name, $root, $path, $base { $($body)* } })*

        /// Where each field of each structure lies, to be compared with a kernel's BTF.
        #[doc(hidden)]
        pub fn layout() -> Vec<Layout> {
            let mut all = vec![$($name::LAYOUT,)*];
            all.push(crate::perf_ring::PAGE_LAYOUT);
            all
        }
    };
}

attrs! {
    MapCreateAttr, "bpf_attr", "", 0 {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        inner_map_fd: i32,
        numa_node: u32,
        map_name: [u8; 16],
        map_ifindex: u32,
        btf_fd: i32,
        btf_key_type_id: u32,
        btf_value_type_id: u32,
        btf_vmlinux_value_type_id: u32,
        map_extra: u64,
        value_type_btf_obj_fd: i32,
        map_token_fd: i32,
    }

    ElemAttr, "bpf_attr", "", 0 {
        map_fd: i32,
        _pad: u32,
        key: u64,
        value: u64,
        flags: u64,
    }

    BatchAttr, "bpf_attr", "batch", 0 {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map_fd: i32,
        elem_flags: u64,
        flags: u64,
    }

    ProgLoadAttr, "bpf_attr", "", 0 {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
        prog_btf_fd: i32,
        func_info_rec_size: u32,
        func_info: u64,
        func_info_cnt: u32,
        line_info_rec_size: u32,
        line_info: u64,
        line_info_cnt: u32,
        attach_btf_id: u32,
        attach_btf_obj_fd: i32,
        core_relo_cnt: u32,
        fd_array: u64,
        core_relos: u64,
        core_relo_rec_size: u32,
        log_true_size: u32,
        prog_token_fd: i32,
        fd_array_cnt: u32,
    }

    ObjAttr, "bpf_attr", "", 0 {
        pathname: u64,
        bpf_fd: i32,
        file_flags: u32,
        path_fd: i32,
        _pad: u32,
    }

    AttachAttr, "bpf_attr", "", 0 {
        target_fd: i32,
        attach_bpf_fd: i32,
        attach_type: u32,
        attach_flags: u32,
        replace_bpf_fd: i32,
        relative_fd: i32,
        expected_revision: u64,
    }

    TestAttr, "bpf_attr", "test", 0 {
        prog_fd: i32,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
        flags: u32,
        cpu: u32,
        batch_size: u32,
        _pad: u32,
    }

    IdAttr, "bpf_attr", "", 0 {
        start_id: u32,
        next_id: u32,
        open_flags: u32,
        _pad: u32,
    }

    InfoAttr, "bpf_attr", "info", 0 {
        bpf_fd: i32,
        info_len: u32,
        info: u64,
    }

    QueryAttr, "bpf_attr", "query", 0 {
        target_fd: i32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        prog_cnt: u32,
        _pad: u32,
        prog_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }

    TaskFdQueryAttr, "bpf_attr", "task_fd_query", 0 {
        pid: u32,
        fd: u32,
        flags: u32,
        buf_len: u32,
        buf: u64,
        prog_id: u32,
        fd_type: u32,
        probe_offset: u64,
        probe_addr: u64,
    }

    RawTracepointAttr, "bpf_attr", "raw_tracepoint", 0 {
        name: u64,
        prog_fd: i32,
        _pad: u32,
        cookie: u64,
    }

    BtfLoadAttr, "bpf_attr", "", 0 {
        btf: u64,
        btf_log_buf: u64,
        btf_size: u32,
        btf_log_size: u32,
        btf_log_level: u32,
        btf_log_true_size: u32,
        btf_flags: u32,
        btf_token_fd: i32,
    }

    /// What is before the part of BPF_LINK_CREATE that depends on the kind of link.
    LinkHead, "bpf_attr", "link_create", 0 {
        prog_fd: i32,
        target_fd: i32,
        attach_type: u32,
        flags: u32,
    }

    LinkPerfEvent, "bpf_attr", "link_create.perf_event", 16 {
        bpf_cookie: u64,
    }

    LinkKprobeMulti, "bpf_attr", "link_create.kprobe_multi", 16 {
        flags: u32,
        cnt: u32,
        syms: u64,
        addrs: u64,
        cookies: u64,
    }

    LinkUprobeMulti, "bpf_attr", "link_create.uprobe_multi", 16 {
        path: u64,
        offsets: u64,
        ref_ctr_offsets: u64,
        cookies: u64,
        cnt: u32,
        flags: u32,
        pid: u32,
        _pad: u32,
    }

    LinkTracing, "bpf_attr", "link_create.tracing", 16 {
        target_btf_id: u32,
        _pad: u32,
        cookie: u64,
    }

    LinkTracingMulti, "bpf_attr", "link_create.tracing_multi", 16 {
        ids: u64,
        cookies: u64,
        cnt: u32,
        _pad: u32,
    }

    LinkNetfilter, "bpf_attr", "link_create.netfilter", 16 {
        pf: u32,
        hooknum: u32,
        priority: i32,
        flags: u32,
    }

    /// tcx, netkit and cgroup lie alike.
    LinkRelative, "bpf_attr", "link_create.tcx", 16 {
        relative_fd: i32,
        _pad: u32,
        expected_revision: u64,
    }

    LinkIter, "bpf_attr", "link_create", 16 {
        iter_info: u64,
        iter_info_len: u32,
        _pad: u32,
    }

    LinkUpdateAttr, "bpf_attr", "link_update", 0 {
        link_fd: i32,
        new_prog_fd: i32,
        flags: u32,
        old_prog_fd: i32,
    }

    LinkDetachAttr, "bpf_attr", "link_detach", 0 {
        link_fd: i32,
    }

    EnableStatsAttr, "bpf_attr", "enable_stats", 0 {
        type_: u32,
    }

    IterCreateAttr, "bpf_attr", "iter_create", 0 {
        link_fd: i32,
        flags: u32,
    }

    BindMapAttr, "bpf_attr", "prog_bind_map", 0 {
        prog_fd: i32,
        map_fd: i32,
        flags: u32,
    }

    TokenCreateAttr, "bpf_attr", "token_create", 0 {
        flags: u32,
        bpffs_fd: i32,
    }

    RawMapInfo, "bpf_map_info", "", 0 {
        type_: u32,
        id: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        name: [u8; 16],
        ifindex: u32,
        btf_vmlinux_value_type_id: u32,
        netns_dev: u64,
        netns_ino: u64,
        btf_id: u32,
        btf_key_type_id: u32,
        btf_value_type_id: u32,
        btf_vmlinux_id: u32,
        map_extra: u64,
    }

    RawProgInfo, "bpf_prog_info", "", 0 {
        type_: u32,
        id: u32,
        tag: [u8; 8],
        jited_prog_len: u32,
        xlated_prog_len: u32,
        jited_prog_insns: u64,
        xlated_prog_insns: u64,
        load_time: u64,
        created_by_uid: u32,
        nr_map_ids: u32,
        map_ids: u64,
        name: [u8; 16],
        ifindex: u32,
        // A bit-field of one bit in the kernel's header.
        _gpl_compatible: u32,
        netns_dev: u64,
        netns_ino: u64,
        nr_jited_ksyms: u32,
        nr_jited_func_lens: u32,
        jited_ksyms: u64,
        jited_func_lens: u64,
        btf_id: u32,
        func_info_rec_size: u32,
        func_info: u64,
        nr_func_info: u32,
        nr_line_info: u32,
        line_info: u64,
        jited_line_info: u64,
        nr_jited_line_info: u32,
        line_info_rec_size: u32,
        jited_line_info_rec_size: u32,
        nr_prog_tags: u32,
        prog_tags: u64,
        run_time_ns: u64,
        run_cnt: u64,
        recursion_misses: u64,
        verified_insns: u32,
        attach_btf_obj_id: u32,
        attach_btf_id: u32,
        _pad: u32,
    }

    RawBtfInfo, "bpf_btf_info", "", 0 {
        btf: u64,
        btf_size: u32,
        id: u32,
        name: u64,
        name_len: u32,
        kernel_btf: u32,
    }

    /// What is before the part that depends on the kind of link.
    LinkInfoHead, "bpf_link_info", "", 0 {
        type_: u32,
        id: u32,
        prog_id: u32,
        _pad: u32,
    }

    InfoRawTracepoint, "bpf_link_info", "raw_tracepoint", 16 {
        tp_name: u64,
        tp_name_len: u32,
        _pad: u32,
        cookie: u64,
    }

    InfoTracing, "bpf_link_info", "tracing", 16 {
        attach_type: u32,
        target_obj_id: u32,
        target_btf_id: u32,
        _pad: u32,
        cookie: u64,
    }

    InfoCgroup, "bpf_link_info", "cgroup", 16 {
        cgroup_id: u64,
        attach_type: u32,
        _pad: u32,
    }

    InfoIter, "bpf_link_info", "iter", 16 {
        target_name: u64,
        target_name_len: u32,
        _pad: u32,
    }

    InfoNetns, "bpf_link_info", "netns", 16 {
        netns_ino: u32,
        attach_type: u32,
    }

    InfoXdp, "bpf_link_info", "xdp", 16 {
        ifindex: u32,
        _pad: u32,
    }

    InfoStructOps, "bpf_link_info", "struct_ops", 16 {
        map_id: u32,
        _pad: u32,
    }

    InfoNetfilter, "bpf_link_info", "netfilter", 16 {
        pf: u32,
        hooknum: u32,
        priority: i32,
        flags: u32,
    }

    InfoKprobeMulti, "bpf_link_info", "kprobe_multi", 16 {
        addrs: u64,
        count: u32,
        flags: u32,
        missed: u64,
        cookies: u64,
    }

    InfoUprobeMulti, "bpf_link_info", "uprobe_multi", 16 {
        path: u64,
        offsets: u64,
        ref_ctr_offsets: u64,
        cookies: u64,
        path_size: u32,
        count: u32,
        flags: u32,
        pid: u32,
    }

    InfoPerfEvent, "bpf_link_info", "perf_event", 16 {
        type_: u32,
        _pad: u32,
    }

    InfoPerfUprobe, "bpf_link_info", "perf_event.uprobe", 24 {
        file_name: u64,
        name_len: u32,
        offset: u32,
        cookie: u64,
    }

    InfoPerfKprobe, "bpf_link_info", "perf_event.kprobe", 24 {
        func_name: u64,
        name_len: u32,
        offset: u32,
        addr: u64,
        missed: u64,
        cookie: u64,
    }

    InfoPerfTracepoint, "bpf_link_info", "perf_event.tracepoint", 24 {
        tp_name: u64,
        name_len: u32,
        _pad: u32,
        cookie: u64,
    }

    InfoPerfEventEvent, "bpf_link_info", "perf_event.event", 24 {
        config: u64,
        type_: u32,
        _pad: u32,
        cookie: u64,
    }

    /// tcx, netkit.
    InfoDevice, "bpf_link_info", "tcx", 16 {
        ifindex: u32,
        attach_type: u32,
    }

    InfoSockmap, "bpf_link_info", "sockmap", 16 {
        map_id: u32,
        attach_type: u32,
    }

    /// Up to `PERF_ATTR_SIZE_VER5`: every kernel since 4.1 knows that much.
    PerfEventAttr, "perf_event_attr", "", 0 {
        type_: u32,
        size: u32,
        config: u64,
        sample_period: u64,
        sample_type: u64,
        read_format: u64,
        _bits: u64,
        wakeup_events: u32,
        bp_type: u32,
        config1: u64,
        config2: u64,
        branch_sample_type: u64,
        sample_regs_user: u64,
        sample_stack_user: u32,
        clockid: i32,
        sample_regs_intr: u64,
        aux_watermark: u32,
        sample_max_stack: u16,
        _reserved_2: u16,
    }
}
