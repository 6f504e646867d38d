//! An image of one coded picture or of a grid of them, whose rows are asked for from top to bottom.

use anyhow::{Result, bail, ensure};
use heifer_isobmff::ItemId;
use heifer_isobmff::boxes::Property;

use super::super::format::unsupported;
use super::colour::{Converter, Planes, Sampling, Signal};
use super::{Container, unsupported_kind};

/// Shortest side of the tiles of a grid, as the format's standard requires: each tile costs some
/// time, however small.
const LEAST_TILE: u32 = 64;

/// Pixels that are added at the right and below to fill a codec's blocks.
pub(super) const PADDING: u32 = 64;

/// Bytes per pixel that a codec takes besides the samples: what it notes of blocks.
const NOTES: u64 = 3;

/// What a coded picture claims of itself, before it is decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Columns and rows, with the padding that fills the codec's blocks.
    pub(super) size: (u32, u32),
    pub(super) sampling: Sampling,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            size: (0, 0),
            sampling: Sampling::Grey,
        }
    }
}

impl Shape {
    pub(super) fn pixels(self) -> u64 {
        u64::from(self.size.0) * u64::from(self.size.1)
    }
}

pub(super) struct Tiles<'a> {
    container: Container<'a>,
    /// Width and height of the image, in pixels.
    pub(super) size: (u32, u32),
    /// Row by row.
    items: Vec<ItemId>,
    columns: usize,
    /// Width and height of a tile.
    tile: (u32, u32),
    kind: [u8; 4],
    /// The first tile as coded, which no other may exceed.
    shape: Shape,
    /// What the whole image's properties say of its colours.
    signal: Option<Signal>,
    /// The row of tiles that was decoded last, and its pictures.
    row: Option<(usize, Vec<(Planes, Converter)>)>,
}

impl<'a> Tiles<'a> {
    /// The tiles of an item.
    pub(super) fn of(container: Container<'a>, id: ItemId) -> Result<Self> {
        let (file, format) = (container.file, container.format);
        let (kind, size) = (container.kind(id)?, container.size(id)?);
        let signal = container.signal(id)?;
        let mut tiles = Self {
            container,
            size,
            items: vec![id],
            columns: 1,
            tile: size,
            kind,
            shape: Shape::default(),
            signal,
            row: None,
        };
        if kind == *b"grid" {
            let grid = container.of(file.grid(id))?;
            tiles.items = file.referenced_items(id, b"dimg").to_vec();
            tiles.columns = usize::from(grid.columns);
            let count = usize::from(grid.rows) * tiles.columns;
            ensure!(tiles.items.len() == count, format.damaged());
            tiles.size = (grid.output_width, grid.output_height);
            tiles.tile = container.size(tiles.items[0])?;
            tiles.kind = container.kind(tiles.items[0])?;
            tiles.check_grid(u32::from(grid.columns), u32::from(grid.rows))?;
        }
        ensure!(
            tiles.size.0 > 0 && tiles.size.1 > 0 && tiles.tile.0 > 0 && tiles.tile.1 > 0,
            format.damaged()
        );
        tiles.shape = match &tiles.kind {
            #[cfg(feature = "heic")]
            b"hvc1" | b"hev1" => super::hevc::shape(container, tiles.items[0])?,
            #[cfg(feature = "avif")]
            b"av01" => super::av1::shape(container, tiles.items[0], tiles.tile)?,
            other => bail!(unsupported_kind(format, *other)),
        };
        // Limits are set by what is shown, so that no more than the codec's blocks may lie outside.
        let fits = |coded: u32, shown: u32| coded <= shown.saturating_add(PADDING);
        let (coded, shown) = (tiles.shape.size, tiles.tile);
        let is_meant = fits(coded.0, shown.0) && fits(coded.1, shown.1);
        ensure!(is_meant, format.damaged());
        Ok(tiles)
    }

    /// Tiles of one size and kind that cover the image, with none to spare, and stand upright.
    fn check_grid(&self, columns: u32, rows: u32) -> Result<()> {
        let format = self.container.format;
        let covers = |tiles: u32, tile: u32, whole: u32| {
            let most = u64::from(tiles) * u64::from(tile);
            most >= u64::from(whole) && most - u64::from(tile) < u64::from(whole)
        };
        ensure!(
            covers(columns, self.tile.0, self.size.0) && covers(rows, self.tile.1, self.size.1),
            format.damaged()
        );
        let is_small = self.items.len() > 1 && self.tile.0.min(self.tile.1) < LEAST_TILE;
        let name = format!(
            "a {} of tiles of less than {LEAST_TILE} pixels",
            format.title()
        );
        ensure!(!is_small, unsupported(&name));
        let turns = |property: &Property| {
            matches!(
                property,
                Property::CleanAperture { .. } | Property::Rotation(1..) | Property::Mirror(_)
            )
        };
        for id in &self.items {
            let is_same =
                self.container.size(*id)? == self.tile && self.container.kind(*id)? == self.kind;
            ensure!(is_same, format.damaged());
            let name = format!("a {} of tiles that are turned", format.title());
            ensure!(
                !self.container.properties(*id)?.any(turns),
                unsupported(&name)
            );
        }
        Ok(())
    }

    /// The bytes that decoding takes besides the data: a row of tiles, and of one of them twice the
    /// samples and what is noted of its blocks.
    pub(super) fn bytes(&self) -> u64 {
        // No machine has more than a petabyte.
        let pixels = self.shape.pixels().min(1 << 50);
        let held = self.shape.sampling.bytes(pixels);
        (self.columns as u64 + 2) * held + NOTES * pixels
    }

    /// Decodes a tile.
    fn decode(&self, id: ItemId) -> Result<(Planes, Converter)> {
        let mut planes = match &self.kind {
            #[cfg(feature = "avif")]
            b"av01" => super::av1::decode(self.container, id, self.shape)?,
            #[cfg(feature = "heic")]
            _ => super::hevc::decode(self.container, id, self.shape)?,
            #[cfg(not(feature = "heic"))]
            other => bail!(unsupported_kind(self.container.format, *other)),
        };
        let format = self.container.format;
        let (width, height) = (self.tile.0 as usize, self.tile.1 as usize);
        let is_whole = planes.size.0 >= width && planes.size.1 >= height;
        let is_meant = is_whole && planes.sampling == self.shape.sampling;
        ensure!(is_meant && matches!(planes.bits, 8..=16), format.damaged());
        // The container's word counts more than the codec's.
        let stated = self.signal.or(self.container.signal(id)?);
        planes.signal = stated.unwrap_or(planes.signal);
        let converter = Converter::of(planes.signal, planes.bits)?;
        Ok((planes, converter))
    }

    /// The transfer function of the row that was decoded last, as a number of H.273.
    pub(super) fn transfer(&self) -> Option<u16> {
        let (_, pictures) = self.row.as_ref()?;
        pictures.first().map(|(planes, _)| planes.signal.transfer)
    }

    /// Writes the colours of the row's pixels from column `left`, each at the start of `channels`
    /// samples.
    pub(super) fn colours(
        &mut self,
        y: usize,
        left: usize,
        row: &mut [u8],
        channels: usize,
    ) -> Result<()> {
        self.each(
            y,
            left,
            row,
            channels,
            |(planes, converter), y, from, row| {
                converter.colours(planes, y, from, row, channels);
            },
        )
    }

    /// Writes the row's luma from column `left` as the fourth of each four samples.
    pub(super) fn alphas(&mut self, y: usize, left: usize, row: &mut [u8]) -> Result<()> {
        self.each(y, left, row, 4, |(planes, converter), y, from, row| {
            converter.alphas(planes, y, from, row);
        })
    }

    /// Calls `write` for the part of each tile in a row of pixels: with the tile, its own row and
    /// first column, and the part.
    fn each(
        &mut self,
        y: usize,
        left: usize,
        row: &mut [u8],
        channels: usize,
        write: impl Fn(&(Planes, Converter), usize, usize, &mut [u8]),
    ) -> Result<()> {
        let (width, height) = (self.tile.0 as usize, self.tile.1 as usize);
        let wanted = y / height;
        if self.row.as_ref().is_none_or(|(at, _)| *at != wanted) {
            self.row = None; // before others are decoded
            let items = self.items.iter().skip(wanted * self.columns);
            let pictures = items.take(self.columns).map(|id| self.decode(*id));
            self.row = Some((wanted, pictures.collect::<Result<_>>()?));
        }
        let Some((_, pictures)) = &self.row else {
            bail!(self.container.format.damaged());
        };
        let mut rest = row;
        let mut from = left % width;
        for picture in pictures.iter().skip(left / width) {
            let length = (rest.len() / channels).min(width - from);
            let (part, after) = rest.split_at_mut(length * channels);
            write(picture, y % height, from, part);
            (rest, from) = (after, 0);
        }
        ensure!(rest.is_empty(), self.container.format.damaged());
        Ok(())
    }
}
