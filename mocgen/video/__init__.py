"""Clips in and videos out through PyAV: probe, read and write, streaming, with one clear error each."""

from mocgen.video.cuts import CutFinder, find_cuts
from mocgen.video.metadata import read_attachment, read_metadata
from mocgen.video.output import OutputKind, check_output, output_kind
from mocgen.video.probe import VideoInfo, probe
from mocgen.video.read import read_frames
from mocgen.video.resample import resample_frames
from mocgen.video.write import VideoWriter

__all__ = [
    "CutFinder",
    "OutputKind",
    "VideoInfo",
    "VideoWriter",
    "check_output",
    "find_cuts",
    "output_kind",
    "probe",
    "read_attachment",
    "read_frames",
    "read_metadata",
    "resample_frames",
]
