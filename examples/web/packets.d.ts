// Packets of choreo's live loop. Made by formats/packets.py from its JSON Schema; a test compares them.
// Every time is an integer number of microseconds; a missing value is null, never 0.

/** One frame of the 11 model inputs, as a source delivered it. */
export interface SensorPacket {
  /** When it was measured, on the sensor's clock [us]. */
  t_us: number;
  /** When it arrived, on the host's clock [us]. */
  t_arrival_us: number;
  /** The 11 inputs in order, null where missing. */
  values: [
    motion_energy: number | null,
    motion_freq: number | null,
    jerk: number | null,
    hip_sway: number | null,
    hip_bounce: number | null,
    symmetry: number | null,
    hr: number | null,
    hr_slope: number | null,
    audio_energy: number | null,
    audio_brightness: number | null,
    beat_phase: number | null,
  ];
  /** One bit a modality: 1 mot, 2 hr, 4 aud, 8 ctx, 0 to 15. */
  mask: number;
}

/** One frame of the four latent blocks. */
export interface LatentPacket {
  /** Time of the frame, on the music clock [us]. */
  t_us: number;
  /** Latent block of motion [1], 64 numbers. */
  mot: number[];
  /** Latent block of heart rate [1], 16 numbers. */
  hr: number[];
  /** Latent block of the music [1], 16 numbers. */
  aud: number[];
  /** Latent block of the beat [1], 8 numbers. */
  ctx: number[];
}

/** One frame of the five controls, as the instrument receives them. */
export interface ControlPacket {
  /** Time of the frame, on the music clock [us]. */
  t_us: number;
  /** Counts the packets of a run from 0; a gap is a loss. */
  seq: number;
  /** Factor on the tempo, 1 leaves it as it is [1], 0.25 to 4. */
  tempo_scale: number;
  /** How much happens [1], 0 to 1. */
  density: number;
  /** How tense it is [1], 0 to 1. */
  tension: number;
  /** How bright it sounds [1], 0 to 1. */
  brightness: number;
  /** How much goes to the effects [1], 0 to 1. */
  fx_send: number;
  /** The values repeat the last valid ones because the model gave none. */
  held: boolean;
}

/**
 * The 11 inputs of SensorPacket.values:
 *  0. `motion_energy` [1] 0 to 1: mean joint speed over its 95th percentile, saturating at 1
 *  1. `motion_freq` [Hz] 0 to 8: dominant rate of motion_energy over the last 4 s
 *  2. `jerk` [1] 0 to 1: mean norm of the third difference over its 99th percentile
 *  3. `hip_sway` [1] -1 to 1: lateral pelvis displacement over 0.15 body heights, 2 s high-pass
 *  4. `hip_bounce` [1] -1 to 1: vertical pelvis displacement, same scale
 *  5. `symmetry` [1] 0 to 1: 1 minus the normalised left/right speed difference
 *  6. `hr` [beats/min] 30 to 220: heart rate
 *  7. `hr_slope` [beats/min/s] -10 to 10: least-squares slope of heart rate over the last 4 s
 *  8. `audio_energy` [1] 0 to 1: RMS level, -60..0 dBFS
 *  9. `audio_brightness` [1] 0 to 1: log spectral centroid, 200..8000 Hz
 *  10. `beat_phase` [cycle] 0 to 1: position inside the beat
 */
export type InputName =
  | "motion_energy"
  | "motion_freq"
  | "jerk"
  | "hip_sway"
  | "hip_bounce"
  | "symmetry"
  | "hr"
  | "hr_slope"
  | "audio_energy"
  | "audio_brightness"
  | "beat_phase";

/** The controls, in this order everywhere. */
export type ControlName =
  | "tempo_scale"
  | "density"
  | "tension"
  | "brightness"
  | "fx_send";
