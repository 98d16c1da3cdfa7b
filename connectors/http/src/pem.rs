//! Certificates and keys, from files.

use std::path::{Path, PathBuf};

use aqueduct_api::{Edge, Error, Result, disk::Open};

/// The most bytes of a file of certificates: system bundles have some 200 KiB.
const LARGEST: usize = 4 << 20;

/// Reads a file that a setting names, relative to the configuration's folder.
pub(crate) async fn read(edge: &Edge, folder: &Path, path: &str, setting: &'static str) -> Result<Vec<u8>> {
    let path = folder.join(path);
    let disk = edge.disk.clone();
    let shown: PathBuf = path.clone();
    let read = move || {
        let file = disk.open(&path, Open::Read)?;
        let mut bytes = Vec::new();
        file.read_at(&mut bytes, LARGEST, 0)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = edge.blocking(read).await?;
    bytes.map_err(|cause| Error::fatal(format!("setting {setting}: read {}: {cause}", shown.display())))
}
