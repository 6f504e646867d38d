//! Checks pages against a validated footer: the `parquet` crate allocates what a page claims.

use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;

/// Pages that together claim no more entries than the footer allows.
pub(super) struct BoundedPages {
    pages: Box<dyn PageReader>,
    left: usize,
}

impl BoundedPages {
    pub(super) fn new(pages: Box<dyn PageReader>, most: usize) -> Self {
        Self { pages, left: most }
    }

    fn check(&mut self, page: Page) -> parquet::errors::Result<Page> {
        let claimed = page.num_values() as usize;
        let left = if page.is_data_page() {
            self.left.checked_sub(claimed)
        } else {
            // A dictionary has at most as many values as there are entries.
            (claimed <= self.left).then_some(self.left)
        };
        self.left = left.ok_or_else(|| {
            ParquetError::General(format!("a page claims {claimed} entries, too many"))
        })?;
        Ok(page)
    }
}

impl Iterator for BoundedPages {
    type Item = parquet::errors::Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for BoundedPages {
    fn get_next_page(&mut self) -> parquet::errors::Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.map(|page| self.check(page)).transpose()
    }

    fn peek_next_page(&mut self) -> parquet::errors::Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> parquet::errors::Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> parquet::errors::Result<bool> {
        self.pages.at_record_boundary()
    }
}
