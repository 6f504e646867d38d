//! After any kill, the next run resumes, and the result is the same to the byte.

use std::process::Stdio;
use std::time::Duration;

use super::{OUTPUTS, contents, small};
use crate::room::{Room, png};

/// Delays that differ each time, but are not purely random.
struct Delays(u64);

impl Delays {
    fn next(&mut self) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695);
        Duration::from_micros(5_000 + (self.0 >> 33) % 250_000)
    }
}

#[test]
fn killed_at_any_moment_a_run_can_be_finished() {
    let room = Room::new();
    for index in 0..300 {
        let content = png(&format!("{index}"));
        let is_broken = index % 50 == 7;
        room.file(
            format!("p/{index:03}.png"),
            if is_broken { &content[..40] } else { &content },
        );
    }
    let mut delays = Delays(std::process::id().into());
    for output in OUTPUTS {
        let start = |name: &str| {
            let mut command = room.command();
            command.args([
                "embed",
                "-m",
                small::model(),
                "p",
                "-q",
                "--resume",
                "-o",
                name,
            ]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        };
        assert_eq!(
            start(&format!("ref_{output}")).wait().unwrap().code(),
            Some(1)
        );
        let expected = contents(&room, "ref_");
        let mut kills = 0;
        loop {
            let mut child = start(&format!("run_{output}"));
            // The last ones may finish, however slow the machine.
            if kills < 12 {
                std::thread::sleep(delays.next());
                let _ = child.kill();
            }
            match child.wait().unwrap().code() {
                None => kills += 1,
                code => {
                    assert_eq!(code, Some(1));
                    break;
                }
            }
        }
        let found = contents(&room, "run_");
        assert!(found == expected, "{output} after {kills} kills");
        for (name, _) in contents(&room, "ref_") {
            std::fs::remove_file(room.path(format!("ref_{name}"))).unwrap();
            std::fs::remove_file(room.path(format!("run_{name}"))).unwrap();
        }
    }
}
