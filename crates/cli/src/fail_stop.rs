//! A panic is told of whatever became of standard error, and ends a broker.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use crate::stderr;

/// From now on a panic is told of by way of [`stderr`]: the standard library's report would wait
/// for a reader that has stopped reading.
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(report));
}

/// From now on a panic on any thread or task is reported, and then aborts the process.
///
/// A panic is a broken invariant. Unwinding would end one thread or task and leave a broker that
/// keeps its session, and so its leaderships, without what it needs to serve them. Ended, it is
/// fenced within a moment and others take over; what it acknowledged is on stable storage.
///
/// This is a hook and no `panic = "abort"` in a profile: tests are built to unwind whatever a
/// profile says, so that every dependency would be compiled twice, and the commands that are
/// clients may unwind.
pub(crate) fn on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        report(panic);
        std::process::abort();
    }));
}

fn report(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let backtrace = Backtrace::capture();
    let trace = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    crate::tell!("thread '{name}' {panic}{trace}");
    stderr::flush(stderr::AT_THE_END);
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Write as _};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};
    use std::time::{Duration, Instant};

    /// Set in the process that is to panic.
    const PANIC: &str = "TIDELOG_TEST_PANIC";
    const SIGABRT: i32 = 6;

    fn panicking(test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = format!("fail_stop::tests::{test}");
        command.args(["--exact", "--nocapture", &name]).env(PANIC, "1");
        command
    }

    fn panic() {
        super::on_panic();
        let _ = std::thread::spawn(|| panic!("an invariant broke")).join();
    }

    #[test]
    fn a_panic_on_any_thread_ends_the_process_and_says_why() {
        if std::env::var_os(PANIC).is_some() {
            return panic();
        }
        let output = panicking("a_panic_on_any_thread_ends_the_process_and_says_why")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(SIGABRT), "{told}");
        assert!(
            told.contains("an invariant broke") && told.contains("fail_stop.rs"),
            "{told}"
        );
    }

    #[test]
    fn a_panic_ends_the_process_although_nobody_reads_why() {
        if std::env::var_os(PANIC).is_some() {
            return panic();
        }
        let (reader, stderr) = full_pipe();
        let mut child = panicking("a_panic_ends_the_process_although_nobody_reads_why")
            .stderr(stderr)
            .spawn()
            .unwrap();
        let status = ends(&mut child);
        drop(reader);
        assert_eq!(status.signal(), Some(SIGABRT), "{status}");
    }

    /// A pipe without any room. The reader keeps it open.
    fn full_pipe() -> (PipeReader, PipeWriter) {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut filler = &writer;
        rustix::io::ioctl_fionbio(filler, true).unwrap();
        while filler.write(&[b'x'; 64]).is_ok() {}
        while filler.write(b"x").is_ok() {}
        rustix::io::ioctl_fionbio(filler, false).unwrap();
        (reader, writer)
    }

    fn ends(child: &mut std::process::Child) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("the process hangs");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
