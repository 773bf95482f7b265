"""How good sound is beside what it should be, by measures that others wrote, for `trunkctl speech bench concealment`.

Reads one job a line (JSON: clean, heard, both WAV at 8 kHz, heard with more behind it) and answers with the score of
ITU-T P.862, narrow band, with that of STOI, and with how much later the sound is heard, in ms. STOI knows of no
delay that changes, so the sound is first laid upon the clean one piece by piece; P.862 does so by itself.
"""

import json
import sys
import wave

import numpy
from pesq import pesq
from pystoi import stoi
from scipy.signal import fftconvolve

RATE = 8000
PIECE = 4000
LATEST = 4000


def read(file):
    with wave.open(file) as sound:
        return numpy.frombuffer(sound.readframes(sound.getnframes()), numpy.int16).astype(numpy.float64)


def laid_upon(clean, heard):
    """Returns what was heard at the times of the clean sound, and the delays of its louder pieces in samples."""
    window = numpy.hanning(PIECE + 1)[:PIECE]
    out = numpy.zeros(len(clean) + PIECE)
    weight = numpy.zeros(len(clean) + PIECE)
    clean = numpy.concatenate([numpy.zeros(PIECE // 2), clean, numpy.zeros(PIECE)])
    heard = numpy.concatenate([numpy.zeros(PIECE // 2), heard, numpy.zeros(PIECE + LATEST)])
    loud = numpy.sqrt(numpy.mean(clean**2))
    delays, last = [], 0
    for at in range(0, len(out) - PIECE // 2, PIECE // 2):
        piece = clean[at : at + PIECE]
        there = heard[at : at + PIECE + LATEST]
        if len(piece) < PIECE or len(there) < PIECE:
            break
        if numpy.sqrt(numpy.mean(piece**2)) > loud / 4:
            likeness = fftconvolve(there, piece[::-1], "valid")
            energy = fftconvolve(there**2, numpy.ones(PIECE), "valid")
            last = int(numpy.argmax(likeness / numpy.sqrt(numpy.maximum(energy, 1e4))))
            delays.append(last)
        end = min(at + PIECE, len(out))
        out[at:end] += (there[last : last + PIECE] * window)[: end - at]
        weight[at:end] += window[: end - at]
    out = out / numpy.maximum(weight, 1e-6)
    return out[PIECE // 2 :], delays


for line in sys.stdin:
    job = json.loads(line)
    clean, heard = read(job["clean"]), read(job["heard"])
    laid, delays = laid_upon(clean, heard)
    laid = laid[: len(clean)]
    answer = {
        "pesq": float(pesq(RATE, clean / 32768, heard / 32768, "nb")),
        "stoi": float(stoi(clean[: len(laid)], laid, RATE)),
        "delay_ms": float(numpy.median(delays)) / 8 if delays else None,
    }
    print(json.dumps(answer), flush=True)
