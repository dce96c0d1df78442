//! A panic ends the process.

/// From now on a panic on any thread or task is reported as always, and then aborts the process.
///
/// A panic is a broken invariant. Unwinding would end one thread or task and leave a broker that keeps its session, and so its
/// leaderships, without what it needs to serve them. Ended, it is fenced within a moment and others take over; what it
/// acknowledged is on stable storage.
///
/// This is a hook and no `panic = "abort"` in a profile: tests are built to unwind whatever a profile says, so that every
/// dependency would be compiled twice, and the commands that are clients may unwind.
pub(crate) fn on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    /// Set in the process that is to panic.
    const PANIC: &str = "TIDELOG_TEST_PANIC";
    const SIGABRT: i32 = 6;

    #[test]
    fn a_panic_on_any_thread_ends_the_process_and_says_why() {
        if std::env::var_os(PANIC).is_some() {
            super::on_panic();
            let _ = std::thread::spawn(|| panic!("an invariant broke")).join();
            return;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "fail_stop::tests::a_panic_on_any_thread_ends_the_process_and_says_why",
            ])
            .env(PANIC, "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(SIGABRT), "{told}");
        assert!(told.contains("an invariant broke"), "{told}");
    }
}
