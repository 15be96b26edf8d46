//! A disk of its own for one node's data, which can be filled or lose its power. Needs root. The node must not run while
//! its data move onto the disk or back.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::wait_for;

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: what was not synced is gone, every later write fails.
const CUT: &str = "import fcntl, os, struct, sys; \
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";
const BALLAST: &str = "ballast";
const LET_GO_MAX: Duration = Duration::from_secs(10);

/// A mounted disk with a node's data. Dropping it unmounts it, whatever is on it.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
    image: Option<PathBuf>,
}

impl Disk {
    /// A file system in memory with room for so many mebibytes more than there are.
    pub fn small(data: &Path, room_mib: u64) -> Result<Self> {
        let used = run("du", &["-s", "--block-size=1M", &data.display().to_string()])?;
        let used_mib: u64 = used.split_whitespace().next().unwrap_or_default().parse().context("du")?;
        Self::under(data, None, &["-t", "tmpfs", "-o", &format!("size={}m", used_mib + room_mib), "none"])
    }

    /// An ext4 file system in a file.
    pub fn with_power(data: &Path) -> Result<Self> {
        let image = data.with_extension("image");
        let text = image.display().to_string();
        run("truncate", &["-s", "128M", &text])?;
        run("mkfs.ext4", &["-q", "-F", &text])?;
        Self::under(data, Some(image), &["-o", "loop", &text])
    }

    fn under(data: &Path, image: Option<PathBuf>, mount: &[&str]) -> Result<Self> {
        let aside = data.with_extension("aside");
        fs::rename(data, &aside)?;
        fs::create_dir(data)?;
        let at = data.display().to_string();
        run("mount", &[mount, &[at.as_str()]].concat())?;
        let disk = Self { at: data.to_owned(), image };
        copy(&aside, data)?;
        fs::remove_dir_all(&aside)?;
        Ok(disk)
    }

    /// Writes until there is no room for another byte.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.at.join(BALLAST))?;
        for size in [64 * 1024, 4 * 1024, 1] {
            let block = vec![0; size];
            let full = loop {
                if let Err(error) = ballast.write_all(&block) {
                    break error;
                }
            };
            ensure!(full.kind() == std::io::ErrorKind::StorageFull, "the disk did not fill: {full}");
        }
        Ok(())
    }

    /// Undoes `fill`.
    pub fn make_room(&self) -> Result<()> {
        fs::remove_file(self.at.join(BALLAST)).context("no ballast")
    }

    /// Cuts the power: nothing that was not synced survives.
    pub fn cut(&self) -> Result<()> {
        run("python3", &["-c", CUT, &self.at.display().to_string()])?;
        let probe = File::create(self.at.join("probe")).is_err();
        ensure!(probe, "the disk still takes writes after its power was cut");
        Ok(())
    }

    /// Power comes back: the file system is mounted anew and replays its journal.
    pub fn restore(&self) -> Result<()> {
        let at = self.at.display().to_string();
        run("umount", &[&at])?;
        match &self.image {
            Some(image) => {
                let image = image.display().to_string();
                // Elsewhere, as in the namespace of another story, a copy of the mount may live on; mounting would then
                // only join it again, dead as it is.
                wait_for("the disk without power to be let go", LET_GO_MAX, || {
                    run("losetup", &["--associated", &image]).is_ok_and(|devices| devices.is_empty()).then_some(())
                })?;
                run("mount", &["-o", "loop", &image, &at]).map(drop)
            }
            None => bail!("a disk in memory does not survive its power"),
        }
    }

    /// Moves the data back to where they came from.
    pub fn give_back(self) -> Result<()> {
        let aside = self.at.with_extension("aside");
        fs::create_dir(&aside)?;
        copy(&self.at, &aside)?;
        let at = self.at.clone();
        drop(self);
        // Of an ext4 image, not of the node.
        let _ = fs::remove_dir(aside.join("lost+found"));
        fs::remove_dir(&at)?;
        Ok(fs::rename(aside, at)?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let at = self.at.display().to_string();
        // A node that still runs keeps its files; they go with it.
        if run("umount", &[&at]).is_err() {
            let _ = run("umount", &["-l", &at]);
        }
        if let Some(image) = &self.image {
            let _ = fs::remove_file(image);
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    run("cp", &["-a", &format!("{}/.", from.display()), &to.display().to_string()]).map(drop)
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
