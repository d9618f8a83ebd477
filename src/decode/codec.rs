//! Decompression into a buffer of exactly the size in the page header. One byte more or less is damage.
//!
//! Kept although the parquet crate has codecs: its gzip and brotli readers (60.1) grow their output without a limit.
//! Here a stream never gets more memory than was charged for its page.

use std::cell::RefCell;
use std::io::Read;

use parquet::basic::Compression;

use crate::error::{Error, Result};

/// The supported codecs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Snappy,
    Gzip,
    Brotli,
    Zstd,
    /// Hadoop's frames, or the formats that older writers use under the same name.
    Lz4,
    Lz4Raw,
}

impl TryFrom<Compression> for Codec {
    type Error = Error;

    fn try_from(compression: Compression) -> Result<Self> {
        Ok(match compression {
            Compression::UNCOMPRESSED => Codec::None,
            Compression::SNAPPY => Codec::Snappy,
            Compression::GZIP(_) => Codec::Gzip,
            Compression::BROTLI(_) => Codec::Brotli,
            Compression::ZSTD(_) => Codec::Zstd,
            Compression::LZ4 => Codec::Lz4,
            Compression::LZ4_RAW => Codec::Lz4Raw,
            other => return Err(Error::Unsupported { what: format!("codec {}", codec_name(other)) }),
        })
    }
}

/// Returns the codec's name as Parquet tools print it.
pub(super) fn codec_name(compression: Compression) -> &'static str {
    match compression {
        Compression::UNCOMPRESSED => "UNCOMPRESSED",
        Compression::SNAPPY => "SNAPPY",
        Compression::GZIP(_) => "GZIP",
        Compression::BROTLI(_) => "BROTLI",
        Compression::ZSTD(_) => "ZSTD",
        Compression::LZ4 => "LZ4",
        Compression::LZ4_RAW => "LZ4_RAW",
        Compression::LZO => "LZO",
    }
}

impl Codec {
    /// Fills all of `output` from all of `input`, or returns what is wrong.
    pub fn decompress(self, input: &[u8], output: &mut [u8]) -> std::result::Result<(), String> {
        let written = match self {
            Codec::None => copy(input, output),
            Codec::Snappy => snappy(input, output),
            Codec::Gzip => fill(flate2::read::MultiGzDecoder::new(input), output),
            Codec::Brotli => brotli(input, output),
            Codec::Zstd => zstd(input, output).map_err(|error| error.to_string()),
            Codec::Lz4 => lz4(input, output),
            Codec::Lz4Raw => lz4_raw(input, output),
        }?;
        if written == output.len() { Ok(()) } else { Err(format!("it has only {written} bytes")) }
    }
}

fn copy(input: &[u8], output: &mut [u8]) -> std::result::Result<usize, String> {
    if input.len() != output.len() {
        return Err(format!("it has {} bytes", input.len()));
    }
    output.copy_from_slice(input);
    Ok(input.len())
}

fn snappy(input: &[u8], output: &mut [u8]) -> std::result::Result<usize, String> {
    let promised = snap::raw::decompress_len(input).map_err(|error| error.to_string())?;
    if promised != output.len() {
        return Err(format!("its own header says {promised} bytes"));
    }
    snap::raw::Decoder::new().decompress(input, output).map_err(|error| error.to_string())
}

fn zstd(input: &[u8], output: &mut [u8]) -> std::io::Result<usize> {
    thread_local! {
        /// Kept, because to make a context takes longer than to decompress a small page.
        static CONTEXT: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|kept| {
        let context = match kept {
            Some(context) => context,
            None => kept.insert(zstd::bulk::Decompressor::new()?),
        };
        context.decompress_to_buffer(input, output)
    })
}

fn brotli(input: &[u8], output: &mut [u8]) -> std::result::Result<usize, String> {
    // This first byte asks for a window of up to 1 GB. Parquet's brotli codec does not have such windows.
    if input.first().is_some_and(|first| first & 0x7f == 0x11) {
        return Err("it is a large-window brotli stream".into());
    }
    fill(brotli::Decompressor::new(input, 4096), output)
}

fn lz4(input: &[u8], output: &mut [u8]) -> std::result::Result<usize, String> {
    if let Ok(written) = lz4_hadoop(input, output) {
        return Ok(written);
    }
    match fill(lz4_flex::frame::FrameDecoder::new(input), output) {
        Ok(written) if written == output.len() => Ok(written),
        _ => lz4_raw(input, output),
    }
}

/// Reads frames of (uncompressed size, compressed size, block), with both sizes in big-endian.
fn lz4_hadoop(mut input: &[u8], output: &mut [u8]) -> std::result::Result<usize, String> {
    let mut at = 0;
    while !input.is_empty() {
        let (uncompressed, rest) = frame_size(input).ok_or("a frame ends early")?;
        let (compressed, rest) = frame_size(rest).ok_or("a frame ends early")?;
        let block = rest.get(..compressed).ok_or("a frame ends early")?;
        let end = at + uncompressed;
        at += lz4_raw(block, output.get_mut(at..end).ok_or("a frame is too long")?)?;
        if at != end {
            return Err("a frame is too short".into());
        }
        input = &rest[compressed..];
    }
    if at == output.len() { Ok(at) } else { Err(format!("it has only {at} bytes")) }
}

fn frame_size(input: &[u8]) -> Option<(usize, &[u8])> {
    let (size, rest) = input.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*size) as usize, rest))
}

fn lz4_raw(input: &[u8], output: &mut [u8]) -> std::result::Result<usize, String> {
    lz4_flex::block::decompress_into(input, output).map_err(|error| error.to_string())
}

/// Reads until `output` is full, then to the end of the stream, so that its checksums are verified. Further data is an
/// error.
fn fill(mut reader: impl Read, output: &mut [u8]) -> std::result::Result<usize, String> {
    let mut at = 0;
    while at < output.len() {
        match reader.read(&mut output[at..]).map_err(|error| error.to_string())? {
            0 => return Ok(at),
            read => at += read,
        }
    }
    match reader.read(&mut [0]).map_err(|error| error.to_string())? {
        0 => Ok(at),
        _ => Err("it has more bytes than that".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    fn brotli(text: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        brotli::CompressorWriter::new(&mut packed, 4096, 5, 22).write_all(text).unwrap();
        packed
    }

    fn lz4_frame(text: &[u8]) -> Vec<u8> {
        let mut writer = lz4_flex::frame::FrameEncoder::new(Vec::new());
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    fn lz4_hadoop(text: &[u8]) -> Vec<u8> {
        let halves = text.split_at(text.len() / 2);
        let frame = |half: &[u8]| {
            let block = lz4_flex::block::compress(half);
            [&(half.len() as u32).to_be_bytes()[..], &(block.len() as u32).to_be_bytes(), &block].concat()
        };
        [frame(halves.0), frame(halves.1)].concat()
    }

    #[test]
    fn every_codec_fills_exactly_its_buffer_and_never_more() {
        let text: Vec<u8> = (0..10_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for (codec, packed) in [
            (Codec::None, text.clone()),
            (Codec::Snappy, snap::raw::Encoder::new().compress_vec(&text).unwrap()),
            (Codec::Gzip, gzip(&text)),
            (Codec::Brotli, brotli(&text)),
            (Codec::Zstd, zstd::bulk::compress(&text, 3).unwrap()),
            (Codec::Lz4, lz4_hadoop(&text)),
            (Codec::Lz4, lz4_frame(&text)),
            (Codec::Lz4, lz4_flex::block::compress(&text)),
            (Codec::Lz4Raw, lz4_flex::block::compress(&text)),
        ] {
            let mut out = vec![0; text.len()];
            codec.decompress(&packed, &mut out).unwrap();
            assert_eq!(out, text, "{codec:?}");
            assert!(codec.decompress(&packed, &mut vec![0; text.len() - 1]).is_err(), "{codec:?}");
            assert!(codec.decompress(&packed, &mut vec![0; text.len() + 1]).is_err(), "{codec:?}");
            assert!(codec.decompress(&packed[..packed.len() / 2], &mut out).is_err(), "{codec:?}");
            assert!(codec.decompress(&[], &mut out).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn a_damaged_zstd_page_spoils_no_later_one() {
        let text = b"the same context decompresses them all".repeat(100);
        let packed = zstd::bulk::compress(&text, 3).unwrap();
        let mut out = vec![0; text.len()];
        for damaged in [&packed[..packed.len() / 2], &packed[4..], b"no zstd"] {
            assert!(Codec::Zstd.decompress(damaged, &mut out).is_err());
            out.fill(0);
            Codec::Zstd.decompress(&packed, &mut out).unwrap();
            assert_eq!(out, text);
        }
    }

    #[test]
    fn gzip_may_come_in_several_members() {
        let packed = [gzip(b"first "), gzip(b"second")].concat();
        let mut out = vec![0; 12];
        Codec::Gzip.decompress(&packed, &mut out).unwrap();
        assert_eq!(out, b"first second");
    }

    #[test]
    fn lzo_is_named_as_unsupported() {
        assert!(matches!(Codec::try_from(Compression::LZO), Err(Error::Unsupported { .. })));
    }
}
