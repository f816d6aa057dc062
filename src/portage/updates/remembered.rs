//! Updates that a held package still needs, though their file may be gone.

use std::path::Path;
use std::sync::Arc;

use super::{RepoUpdates, UpdateSet, lines};

impl UpdateSet {
    /// Puts `texts` (lines as they stood in update files) before the updates of `repository`, but for those that it has
    /// anyway.
    pub fn put_first(&mut self, repository: &str, texts: &[String]) {
        let place = match self.repos.iter().position(|repo| repo.name == repository) {
            Some(place) => place,
            None => {
                self.repos.push(RepoUpdates { name: repository.to_owned(), updates: Arc::default() });
                self.repos.len() - 1
            }
        };
        let Some(repo) = self.repos.get_mut(place) else { return };
        let known = |text: &String| repo.updates.iter().any(|update| update.text == *text);
        let missing: Vec<&str> = texts.iter().filter(|text| !known(text)).map(String::as_str).collect();
        if missing.is_empty() {
            return;
        }
        let mut updates = Vec::new();
        let file: Arc<Path> = Arc::from(Path::new("held packages"));
        lines::parse(&file, &missing.join("\n"), &mut updates, &mut self.problems);
        updates.extend(repo.updates.iter().cloned());
        repo.updates = Arc::new(updates);
    }
}
