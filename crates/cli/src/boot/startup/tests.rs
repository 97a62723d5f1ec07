//! Steps, what they leave behind, and what systemd says about the units.

use super::*;

fn plan(platform: Platform, of_user: bool, root: &Path) -> Plan {
    Plan {
        platform,
        service: Service {
            name: "everup-alice".into(),
            user: "alice".into(),
            home: "/home/alice/.everup".into(),
            program: "/usr/local/bin/everup".into(),
            path: "/usr/bin:/bin".into(),
            wait_ip: false,
            harden: false,
            of_user,
        },
        root: root.into(),
        config: "/home/alice/.config".into(),
    }
}

fn lines(steps: &[Step]) -> Vec<String> {
    let told = steps.iter().filter_map(|step| match step {
        Step::Run(line) => Some(spelt(line)),
        _ => None,
    });
    told.collect()
}

#[test]
fn steps_for_systemd() {
    let steps = plan(Platform::Systemd, false, Path::new("/")).install();
    assert_eq!(
        lines(&steps),
        ["systemctl daemon-reload", "systemctl enable everup-alice"]
    );
    let steps = plan(Platform::Systemd, true, Path::new("/")).install();
    assert_eq!(
        lines(&steps),
        [
            "systemctl --user daemon-reload",
            "systemctl --user enable everup-alice",
            "loginctl enable-linger alice"
        ]
    );
}

#[test]
fn what_is_installed_is_removed_again() {
    for platform in [Platform::Systemd, Platform::OpenRc] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(platform, false, folder.path());
        perform(&plan.install(), false).unwrap();
        let text = fs::read_to_string(plan.file()).unwrap();
        assert!(text.contains("/usr/local/bin/everup"), "{text}");
        let mode = fs::metadata(plan.file()).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            mode,
            if platform == Platform::Systemd {
                0o644
            } else {
                0o755
            }
        );
        // Over an older one.
        perform(&plan.install(), false).unwrap();
        perform(&plan.remove(), false).unwrap();
        let left = fs::read_dir(plan.file().parent().unwrap()).unwrap().count();
        assert_eq!(left, 0);
    }
}

#[test]
fn the_line_for_root() {
    let args = StartupArgs {
        platform: None,
        user: None,
        hp: None,
        service_name: Some("web".into()),
        wait_ip: true,
        user_unit: false,
        harden: false,
        dry_run: false,
        root: None,
    };
    assert_eq!(
        plan(Platform::Systemd, false, Path::new("/")).sudo("startup", &args),
        "sudo env PATH=/usr/bin:/bin /usr/local/bin/everup startup systemd -u alice --hp /home/alice --wait-ip \
         --service-name web"
    );
}

#[test]
fn a_command_that_fails_is_told() {
    let told = command(&["sh".into(), "-c".into(), "echo no >&2; exit 3".into()]).unwrap_err();
    assert_eq!(told.message, "`sh -c 'echo no >&2; exit 3'` failed: no");
    assert!(command(&["true".into()]).is_ok());
}

#[test]
fn the_search_path_has_no_relative_entries() {
    assert_eq!(
        search_path(Some("/home/a/.nvm/v20/bin:./node_modules/.bin::/usr/bin")),
        "/home/a/.nvm/v20/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin"
    );
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let folder = tempfile::tempdir().unwrap();
    for (of_user, harden, wait_ip) in [(false, false, true), (false, true, false), (true, true, false)] {
        let path = folder.path().join(format!("everup-{of_user}-{harden}.service"));
        let service = Service {
            program: "/bin/true".into(),
            user: "root".into(),
            home: "/home/ä b/100%/.everup".into(),
            of_user,
            harden,
            wait_ip,
            ..plan(Platform::Systemd, of_user, Path::new("/")).service
        };
        fs::write(&path, service.unit()).unwrap();
        // Empty where there is no systemd.
        assert_eq!(verify(&path), [""; 0]);
    }
}
