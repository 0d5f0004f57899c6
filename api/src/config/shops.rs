//! Reads the secrets of shops, as `shop=secret|secret`, each with what is wrong with it.

use amends_workflows::order::ShopName;

use super::Problems;
use super::reader::{Reader, entries};
use super::secret_setting::SecretSetting;
use crate::secret::Secret;
use crate::webhook::Shops;

/// Reads the shops of a file that is read again. There has to be one: a file that holds nothing is
/// being written, or was truncated.
pub(crate) fn read_shops(setting: &str, text: &str) -> Result<Shops, Problems> {
    let mut reader = Reader::default();
    let shops = reader.shops_of(setting, text);
    if shops.is_empty() && reader.problems.is_empty() {
        reader.problem(format!("{setting}: there is no shop"));
    }
    if reader.problems.is_empty() { Ok(shops) } else { Err(Problems(reader.problems)) }
}

impl Reader {
    pub(super) fn shops(&mut self, given: &SecretSetting) -> Shops {
        self.shops_of(&given.setting(), &given.text)
    }

    fn shops_of(&mut self, setting: &str, text: &str) -> Shops {
        let mut shops = Shops::default();
        for (place, entry) in entries(text) {
            let at = format!("{setting}, entry {place}");
            let Some((shop, secrets)) = entry.split_once('=') else {
                self.problem(format!("{at}: has to be shop=secret"));
                continue;
            };
            let shop = shop.trim();
            if shop.parse::<ShopName>().is_err() {
                self.problem(format!("{at}: a shop is a domain, such as acme.myshopify.com"));
            } else if shops.contains(shop) {
                self.problem(format!("{at}: the shop {shop} is there twice"));
            }
            let secrets: Vec<_> = secrets.split('|').map(str::trim).collect();
            if secrets.iter().any(|secret| secret.is_empty()) {
                self.problem(format!("{at}: a secret is empty"));
            }
            shops.insert(shop, secrets.into_iter().map(Secret::new).collect());
        }
        shops
    }
}
