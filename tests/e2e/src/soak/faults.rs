//! Disks that fill up or fail under a relay, and an index that vanishes.

use std::collections::BTreeSet;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use crate::demo::Demo;
use crate::mail::{delivered, message, read, subject};
use crate::smtp::{By, Mail, Smtp};
use crate::until;

const BOB: &str = "bob@receiver.test";
const LIMIT: Duration = Duration::from_secs(120);

/// What a case came to, in words.
pub type Told = String;

/// A relay in trouble, and what it has taken nevertheless.
struct Troubled {
    demo: Demo,
    spool: PathBuf,
    sent: BTreeSet<String>,
}

/// One whose spool is on a small file system of its own.
struct Small {
    relay: Troubled,
    image: PathBuf,
}

impl Deref for Small {
    type Target = Troubled;

    fn deref(&self) -> &Troubled {
        &self.relay
    }
}

impl DerefMut for Small {
    fn deref_mut(&mut self) -> &mut Troubled {
        &mut self.relay
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = self.demo.end("relay", Signal::KILL);
        let _ = run("umount", &["-l", &self.spool.to_string_lossy()]);
        let _ = fs::remove_file(&self.image);
    }
}

/// Whether file systems can be mounted here.
#[must_use]
pub fn can_mount() -> bool {
    rustix::process::geteuid().is_root()
        && Path::new("/dev/loop-control").exists()
        && Path::new("/sbin/mkfs.ext4").exists()
}

/// The disk fills up, and is freed again.
///
/// # Errors
/// Something that was acknowledged is lost, or the relay does not recover by itself.
pub fn full_disk() -> Result<Told> {
    let mut small = Small::start(&["-N", "3000"])?;
    small.demo.end("mx", Signal::KILL)?;
    for _ in 0..100 {
        ensure!(small.send()? == 250, "no room at the beginning");
    }
    let ballast = small.spool.join("ballast");
    // It ends when nothing fits any more.
    let _ = run("dd", &["if=/dev/zero", &format!("of={}", ballast.display()), "bs=1M"]);
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(small.send()? == 452);
    }
    ensure!(refused == 20, "only {refused} of 20 were answered with 452 on a full disk");
    small.demo.start_again("mx")?;
    small.all_arrived("while the disk is full")?;
    let delivered = small.sent.len();
    fs::remove_file(&ballast)?;
    let again = until::holds(LIMIT, || small.send().is_ok_and(|code| code == 250));
    ensure!(again, "no mail is taken although there is room again");
    small.all_arrived("after there was room again")?;

    // The same with inodes instead of octets.
    let filler = small.spool.join("filler");
    fs::create_dir(&filler)?;
    let filled =
        (0..5000).take_while(|n| fs::write(filler.join(n.to_string()), "").is_ok()).count();
    let code = small.send()?;
    ensure!(code == 452, "{code} with {filled} files and no inode left");
    fs::remove_dir_all(&filler)?;
    let again = until::holds(LIMIT, || small.send().is_ok_and(|code| code == 250));
    ensure!(again, "no mail is taken although there are inodes again");
    small.all_arrived("after there were inodes again")?;
    Ok(format!(
        "full disk: 20 of 20 answered with 452, {delivered} delivered meanwhile; no inode left: \
         452; taken again by itself both times; {} acknowledged, 0 lost",
        small.sent.len()
    ))
}

/// The file system goes read-only as kernels do it after an error, and is mended.
///
/// The relay is started again once it is: `mount -o remount,ro` is refused while a file is open
/// for writing, and what went read-only by an error cannot be mounted for writing again before it
/// was taken out and checked. A disk that works again under a running server is simulated in the
/// tests of the journal.
///
/// # Errors
/// Something that was acknowledged is lost.
pub fn read_only() -> Result<Told> {
    let mut small = Small::start(&[])?;
    small.demo.end("mx", Signal::KILL)?;
    for _ in 0..100 {
        ensure!(small.send()? == 250, "no mail is taken at the beginning");
    }
    let device = small.device()?;
    let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
    fs::write(&trigger, "planted").with_context(|| trigger.clone())?;
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(matches!(small.send()?, 451 | 452));
    }
    ensure!(refused == 20, "only {refused} of 20 were refused for the time being");
    small.demo.end("relay", Signal::KILL)?;
    let spool = small.spool.to_string_lossy().into_owned();
    run("umount", &[&spool])?;
    // It answers 1 when it has mended something.
    let _ = run("fsck.ext4", &["-fy", &small.image.to_string_lossy()]);
    run("mount", &["-o", "loop", &small.image.to_string_lossy(), &spool])?;
    small.demo.start_again("relay")?;
    small.demo.start_again("mx")?;
    small.all_arrived("after the file system was mended")?;
    ensure!(small.send()? == 250, "no mail is taken afterwards");
    small.all_arrived("afterwards")?;
    Ok(format!(
        "read-only file system: 20 of 20 answered with 451 or 452; mended, and the relay started \
         again; {} acknowledged, 0 lost",
        small.sent.len()
    ))
}

/// The index is deleted under the relay, and garbled while it is down; `messages` come before and
/// after.
///
/// # Errors
/// Something that was acknowledged is lost.
pub fn index(messages: usize) -> Result<Told> {
    let mut relay = Troubled::start()?;
    let index = relay.spool.join("index");
    relay.demo.end("mx", Signal::KILL)?;
    for _ in 0..messages {
        ensure!(relay.send()? == 250, "no mail is taken at the beginning");
    }
    fs::remove_dir_all(&index)?;
    for _ in 0..messages {
        ensure!(relay.send()? == 250, "no mail is taken without an index");
    }
    relay.demo.end("relay", Signal::KILL)?;
    relay.demo.start_again("relay")?;
    ensure!(relay.send()? == 250, "no mail is taken after a restart");
    ensure!(until::holds(LIMIT, || index.is_dir()), "there is no new index");
    relay.demo.end("relay", Signal::TERM)?;
    for file in fs::read_dir(&index)?.flatten().filter(|file| file.path().is_file()) {
        let octets = fs::metadata(file.path())?.len();
        fs::write(file.path(), vec![0xa5; usize::try_from(octets)?.min(1 << 20)])?;
    }
    relay.demo.start_again("relay")?;
    ensure!(relay.send()? == 250, "no mail is taken with a garbled index");
    relay.demo.start_again("mx")?;
    relay.all_arrived("although the index was lost twice")?;
    Ok(format!(
        "index deleted under the server, and garbled while it was down: {} acknowledged, 0 lost",
        relay.sent.len()
    ))
}

impl Small {
    /// Starts the three servers, the relay's spool on a file system of its own.
    fn start(options: &[&str]) -> Result<Self> {
        let mut relay = Troubled::start()?;
        let Troubled { demo, spool, .. } = &mut relay;
        demo.reconfigure("relay", |text| format!("{text}\n[spool]\nmin_free = \"8MB\"\n"))?;
        demo.end("relay", Signal::TERM)?;
        let image = demo.dir.join("spool.img");
        fs::remove_dir_all(&*spool)?;
        fs::create_dir(&*spool)?;
        fs::File::create(&image)?.set_len(700 << 20)?;
        let path = image.to_string_lossy().into_owned();
        run("mkfs.ext4", &[&["-q", "-F"], options, &[&path]].concat())?;
        run("mount", &["-o", "loop,errors=remount-ro", &path, &spool.to_string_lossy()])?;
        let owner = fs::metadata(demo.dir.join("relay/state"))?;
        use std::os::unix::fs::{MetadataExt as _, chown};
        chown(&*spool, Some(owner.uid()), Some(owner.gid()))?;
        demo.start_again("relay")?;
        Ok(Self { relay, image })
    }

    /// The name of the loop device.
    fn device(&self) -> Result<String> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let spool = self.spool.to_string_lossy();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&spool));
        let device = line.and_then(|line| line.split(' ').next()).context("it is not mounted")?;
        Ok(device.trim_start_matches("/dev/").to_owned())
    }
}

impl Troubled {
    /// Starts the three servers.
    fn start() -> Result<Self> {
        let mut demo = Demo::start()?;
        demo.retry_soon()?;
        let spool = demo.dir.join("relay/state/spool");
        Ok(Self { demo, spool, sent: BTreeSet::new() })
    }

    /// Sends one message; answers the code of the first reply that was not good, or 250.
    fn send(&mut self) -> Result<u16> {
        let name = format!("fault-{}-{}", self.sent.len(), crate::random::seed());
        let content = message(&name, "a@client.test", &b"Coo.\r\n".repeat(200));
        let mut client = Smtp::plain(self.demo.address("relay"))?;
        let mail = Mail {
            from: "a@client.test",
            to: &[BOB],
            parameters: "",
            content: &content,
            by: By::Data,
        };
        match client.send(&mail) {
            Ok(_) => {
                self.sent.insert(name);
                let _ = client.say("QUIT");
                Ok(250)
            }
            Err(error) => {
                let text = error.to_string();
                let code = text.split_once("said: ").and_then(|(_, reply)| reply.get(..3));
                code.and_then(|code| code.parse().ok()).context(text)
            }
        }
    }

    fn all_arrived(&self, when: &str) -> Result<()> {
        let arrived = || -> BTreeSet<String> {
            let files = delivered(self.demo.maildir(BOB));
            files.iter().filter_map(|file| subject(&read(file).ok()?)).collect()
        };
        if !until::holds(LIMIT, || self.sent.is_subset(&arrived())) {
            let missing = self.sent.difference(&arrived()).count();
            bail!(
                "{missing} of {} have not arrived {when}:\n{}",
                self.sent.len(),
                self.demo.tail("relay")
            );
        }
        Ok(())
    }
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let output =
        Command::new(program).args(args).env("PATH", path).output().context(program.to_owned())?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
