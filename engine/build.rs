//! Rebuilds the crate when a migration changes, since `sqlx::migrate!` embeds them; and has its
//! statements checked against the committed `.sqlx`, also where a crate that depends on it is built
//! with `DATABASE_URL` set.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
    println!("cargo:rerun-if-env-changed=SQLX_OFFLINE");
    if std::env::var_os("SQLX_OFFLINE").is_none() {
        println!("cargo:rustc-env=SQLX_OFFLINE=true");
    }
}
