//! `wscast backup`: copies the database of the history, also while a server uses it.

use std::path::PathBuf;

use crate::store;

/// A copy of the database has all messages that were acknowledged before it was made. A server that starts on a copy
/// starts new epochs, so that clients learn that later messages are missing.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct BackupCommand {
    /// The database, as the server's --db names it
    #[arg(long, env = "WSCAST_DB", value_name = "PATH")]
    db: Option<PathBuf>,
    /// The new file for the copy; an existing file is not overwritten
    #[arg(value_name = "FILE")]
    copy: PathBuf,
}

/// A backup to make.
#[derive(Debug)]
pub struct Backup {
    database: PathBuf,
    copy: PathBuf,
}

impl BackupCommand {
    /// Returns the backup to make. `database` is the --db before the command. An `Err` is one line.
    pub(in crate::cli) fn backup(self, database: Option<PathBuf>) -> Result<Backup, String> {
        let database = self.db.or(database);
        Ok(Backup {
            database: database.ok_or("backup: needs the database; write --db PATH")?,
            copy: self.copy,
        })
    }
}

impl Backup {
    /// Copies the database. Returns a line for stdout; an `Err` is one line for stderr.
    pub fn run(&self) -> Result<String, String> {
        store::back_up(&self.database, &self.copy)?;
        let file = std::fs::metadata(&self.copy);
        let bytes = file.map_err(|why| format!("{:?}: {why}", self.copy))?.len();
        Ok(format!("{}: {bytes} bytes\n", self.copy.display()))
    }
}
