//! A way to the database that loses the answer to a commit: the connection breaks in between.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// The statement whose answer is lost.
const COMMIT: &[u8] = b"COMMIT";

/// A detour. Clones are one and the same.
#[derive(Clone, Default)]
pub struct Detour {
    armed: Arc<AtomicBool>,
    lost: Arc<AtomicU32>,
}

impl Detour {
    /// The next answer to a commit is lost.
    pub fn lose_one(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// How many answers were lost.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.lost.load(Ordering::SeqCst)
    }

    /// Leads to where `direct` leads.
    #[must_use]
    pub fn options(&self, direct: &PgConnectOptions) -> PgConnectOptions {
        let folder = tempfile::tempdir().expect("a folder can be made").keep();
        let socket = format!(".s.PGSQL.{}", direct.get_port());
        let target: PathBuf = direct.get_socket().expect("the cluster has a socket").join(&socket);
        let listener = UnixListener::bind(folder.join(&socket)).expect("a socket can be made");
        let detour = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&target).await.expect("the cluster answers");
                tokio::spawn(detour.clone().lead(client, server));
            }
        });
        direct.clone().socket(folder)
    }

    async fn lead(self, client: UnixStream, server: UnixStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let losing = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&losing);
        let there = async move {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                let is_commit = buffer[..read].windows(COMMIT.len()).any(|part| part == COMMIT);
                if is_commit && self.armed.swap(false, Ordering::SeqCst) {
                    self.lost.fetch_add(1, Ordering::SeqCst);
                    losing.store(true, Ordering::SeqCst);
                }
                if to_server.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        };
        let back = async move {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                if watched.load(Ordering::SeqCst)
                    || to_client.write_all(&buffer[..read]).await.is_err()
                {
                    return;
                }
            }
        };
        // Whichever side ends first takes the other one with it.
        tokio::select! {
            () = there => {}
            () = back => {}
        }
    }
}
