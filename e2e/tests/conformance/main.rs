//! Node's own cluster tests, as conformance tests of `everup`: real Node workers, the crate as the primary.
//!
//! The table at the end is the list of rows: per row its modes and the first Node version that has what it is
//! about. Each row runs on Node 18, 20, 22 and 24 as a test of its own: `node18::lifecycle::basic::rr`.
//! `docs/conformance.md` maps Node's test files to these rows.

mod disconnect;
mod engine;
mod handles;
mod lifecycle;
mod listen;
mod messages;
mod net;
mod reference;
mod refuse;
mod support;
mod tls;
mod udp;
mod unix;

/// The tests of one row on one version; none where the version is older than the row.
macro_rules! row {
    (18, 20, $($rest:tt)*) => {};
    (18, 22, $($rest:tt)*) => {};
    (20, 22, $($rest:tt)*) => {};
    ($version:tt, $since:tt, both, $theme:ident, $row:ident) => {
        mod $row {
            row!(test rr, RoundRobin, $version, $theme, $row);
            row!(test shared, Shared, $version, $theme, $row);
        }
    };
    ($version:tt, $since:tt, rr, $theme:ident, $row:ident) => {
        mod $row {
            row!(test rr, RoundRobin, $version, $theme, $row);
        }
    };
    ($version:tt, $since:tt, shared, $theme:ident, $row:ident) => {
        mod $row {
            row!(test shared, Shared, $version, $theme, $row);
        }
    };
    (test $name:ident, $mode:ident, $version:tt, $theme:ident, $row:ident) => {
        #[test]
        fn $name() {
            let name = concat!(module_path!(), "::", stringify!($name));
            crate::support::run($version, crate::support::Mode::$mode, name, crate::$theme::$row);
        }
    };
}

/// The table of rows, once per version.
macro_rules! rows {
    ($($theme:ident { $($row:ident $modes:ident since $since:tt;)* })*) => {
        mod node18 { $( mod $theme { $( row!(18, $since, $modes, $theme, $row); )* } )* }
        mod node20 { $( mod $theme { $( row!(20, $since, $modes, $theme, $row); )* } )* }
        mod node22 { $( mod $theme { $( row!(22, $since, $modes, $theme, $row); )* } )* }
        mod node24 { $( mod $theme { $( row!(24, $since, $modes, $theme, $row); )* } )* }

        /// The page names every row, and every row of the page exists.
        #[test]
        fn the_page_names_every_row() {
            let page = include_str!("../../../docs/conformance.md");
            $($(
                let name = concat!("`", stringify!($theme), "::", stringify!($row), "`");
                assert!(page.contains(name), "docs/conformance.md has no {name}");
            )*)*
            let rows = [$($( concat!(stringify!($theme), "::", stringify!($row)) ),*),*];
            let themes = [$(concat!(stringify!($theme), "::")),*];
            let named = page.split('`').filter(|text| themes.iter().any(|theme| text.starts_with(theme)));
            for name in named {
                assert!(rows.contains(&name), "docs/conformance.md names {name}, which is no row");
            }
        }
    };
}

// A row that has nothing to do with how connections come runs in one mode only.
rows! {
    lifecycle {
        basic both since 18;
        call_and_destroy rr since 18;
        concurrent_disconnect rr since 18;
        cwd rr since 18;
        fork_env rr since 18;
        fork_stdio rr since 18;
        kill_infinite_loop rr since 18;
        primary_error rr since 18;
        primary_kill rr since 18;
        process_disconnect both since 18;
        setup_primary rr since 18;
        worker_death both since 18;
        worker_destroy rr since 18;
        worker_events rr since 18;
        worker_exit both since 18;
        worker_init rr since 18;
        worker_isconnected rr since 18;
        worker_isdead rr since 18;
        worker_kill both since 18;
        worker_kill_signal both since 18;
    }
    disconnect {
        disconnect both since 18;
        disconnect_before_exit rr since 18;
        disconnect_exited_after_disconnect_race rr since 18;
        disconnect_idle_worker rr since 18;
        disconnect_leak both since 18;
        disconnect_race both since 18;
        disconnect_unshared_tcp both since 18;
        disconnect_unshared_udp both since 18;
        disconnect_with_no_workers rr since 18;
        kill_disconnect rr since 18;
        server_restart_none shared since 18;
        server_restart_rr rr since 18;
        shared_leak both since 18;
        worker_disconnect both since 18;
        worker_disconnect_on_error both since 18;
        worker_forced_exit rr since 18;
        worker_no_exit both since 18;
        worker_wait_server_close both since 18;
    }
    listen {
        bind_privileged_port both since 18;
        bind_twice both since 18;
        child_index_net both since 18;
        ipc_throw both since 18;
        listen_fd_cluster both since 18;
        listening_port both since 18;
        net_listen both since 18;
        net_listen_backlog both since 18;
        net_listen_exclusive_random_ports both since 18;
        net_listen_handle_in_cluster_2 both since 18;
        net_listen_ipv6only_false both since 18;
        net_listen_ipv6only_none shared since 18;
        net_listen_ipv6only_rr rr since 18;
        net_listen_shared_ports both since 18;
        net_reuseport both since 22;
        net_server_close_before_ipc_response both since 20;
        port_reuse_between_workers both since 18;
        shared_handle_bind_error both since 18;
        found_backlog_false both since 18;
        found_no_worker both since 18;
    }
    unix {
        eaccess both since 18;
        http_pipe both since 18;
        listen_pipe_readable_writable both since 18;
        net_listen_relative_path both since 18;
        abstract_name both since 18;
        directory_not_writable both since 18;
    }
    udp {
        child_index_dgram both since 18;
        dgram_1 both since 18;
        dgram_2 both since 18;
        dgram_bind_fd both since 18;
        dgram_bind_shared_ports both since 18;
        dgram_cluster_bind_error both since 18;
        dgram_cluster_close_in_listening both since 18;
        dgram_exclusive_implicit_bind both since 18;
        dgram_ipv6only both since 18;
        dgram_reuse both since 18;
        dgram_reuseport both since 22;
    }
    messages {
        advanced_serialization both since 18;
        invalid_message rr since 18;
        message rr since 18;
    }
    handles {
        child_process_fork_closed_channel_segfault rr since 18;
        net_listen_handle_in_cluster_1 both since 20;
        send_deadlock rr since 18;
        send_handle_large_payload rr since 18;
        send_handle_twice both since 18;
        send_socket_to_worker_http_server rr since 18;
        found_ack_unheard both since 18;
        found_non_blocking both since 18;
    }
    refuse {
        accept_fail rr since 18;
        http_server_drop_connections_in_cluster rr since 22;
        net_server_drop_connection rr since 22;
        worker_handle_close rr since 18;
        found_all_refuse rr since 18;
        found_full_buffer rr since 18;
        found_killed_in_flight rr since 18;
        found_nack rr since 18;
    }
    tls {
        ticket_cluster both since 18;
        found_https both since 18;
    }
}
