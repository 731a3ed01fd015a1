"""The built-in handwriting simulator: digits drawn as pen strokes, so that every tool here works without any download.

    images, labels = generate(60_000, seed=0, kind="digits")     # uint8 [60000, 28, 28], int64 [60000]
    images, labels = generate(10_000, kind="random-1000")        # a thousand characters of a script that nobody writes

A class has several writing variants, each a pen path through a few control points. For one image a variant is picked,
its control points are moved, the path is bent, sheared, rotated and stretched, framed as MNIST or MADBase framed
theirs, and inked: a pixel's ink follows from its distance to the path, the pen's radius there, and the scan. The paths
were written for this file; only how far they vary was matched to the training images of those two data sets.
"""
import functools
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from datasets.random_script import CHANCES, MOST_POINTS, random_character
from utils.limits import MAX_CLASSES

CLASSES = {"digits": list("0123456789"), "arabic": list("٠١٢٣٤٥٦٧٨٩")}
CENTRE = {"digits": 14.0, "arabic": 13.1}    # where the centre of mass lies, pixels: in MNIST and in MADBase
SIZE = 28            # frame, pixels
BOX = 20.4           # longest side of the ink, pixels: 20 once it is cut to whole pixels
POINTS = 128         # path samples of an image: half a pixel apart on the longest paths
CHUNK = 128          # images drawn at once: their arrays stay in the processor's cache
BEND = 0.12          # deviation of a path's quadratic and cubic terms, in heights: it bows, tapers and bulges
TREMBLE = 0.012      # deviation of the slowest of the waves along the path, in heights
PRESSURE = 0.12      # the same of the pen's radius, relative

# A variant is (its weight among the class's variants, pen path). A path's points are "x,y" on a grid where y runs down
# from 0 to 100; a smooth curve goes through them, "!" after a point makes it a sharp corner, " / " lifts the pen.
DIGITS = [
    [(4, "34,0 10,18 0,50 10,84 34,100 58,84 66,50 58,18 34,0"),                       # 0  closed oval
     (2, "45,6 20,8 3,34 4,70 25,98 52,90 66,55 58,20 36,4 22,12"),                    #    ends overlap
     (1, "50,10 24,2 3,36 4,70 26,99 54,88 67,52 60,22 44,14 30,22 28,34"),            #    curl inside
     (1, "38,4 12,20 0,55 14,90 38,98 60,78 64,45 56,18"),                             #    open at the top
     (1, "26,2 50,4 66,40 62,75 38,100 12,90 0,52 8,18 32,0")],                        #    clockwise
    [(12, "0,0 0,100"),                                                                # 1  bare stroke
     (4, "0,0 5,50 2,100"),                                                            #    bent
     (1, "0,0 8,25 0,70 6,100"),                                                       #    wavy
     (1, "0,18 22,0! 22,100"),                                                         #    flag
     (.8, "0,26 30,0! 26,100 / 0,100 56,98"),                                          #    flag and base
     (.4, "0,14 40,0! 24,98 / 0,98 60,94"),                                            #    flat flag and base
     (.4, "22,0 22,100 / 0,100 45,100")],                                              #    base
    [(4, "4,22 28,0 54,14 48,44 22,76 0,98! 34,96 68,96"),                             # 2  plain
     (3, "4,20 30,0 54,16 48,48 20,86 4,98 0,86 14,78 40,90 70,94"),                   #    loop at the base
     (2, "4,20 30,0 54,18 44,52 16,86 0,100! 24,88 46,96 70,90"),                      #    wavy base
     (1, "2,6 54,4! 30,50 0,98! 64,98"),                                               #    like a Z
     (1, "16,34 4,24 22,0 50,12 48,44 24,78 2,96! 64,98"),                             #    curl at the start
     (1.5, "4,18 28,0 52,16 44,56 22,90 2,92 4,72 24,66 50,84 70,100"),                #    big loop, falling tail
     (1, "20,34 6,22 26,2 50,12 52,50 30,92 4,94 2,74 24,68 52,76 76,72"),             #    curl and big loop
     (.7, "0,30 30,8 60,24 40,64 4,92! 50,80 110,68"),                                 #    wide, rising base
     (.5, "2,24 28,0 50,20 34,60 0,84! 30,84 66,100"),                                 #    base falls
     (.4, "0,0 26,10 44,40 34,76 4,92! 30,86 80,80")],                                 #    arch worn away
    [(4, "4,14 32,0 54,16 42,38 18,46! 46,52 58,74 36,100 0,90"),                      # 3  cusp in the middle
     (2, "4,12 30,0 54,14 44,36 24,46 18,50 26,52 50,60 56,80 32,100 0,88"),           #    little loop
     (1, "2,4 52,2! 22,40! 48,50 58,74 36,100 0,92"),                                  #    flat top
     (1, "6,10 34,0 52,16 36,42 28,46 46,56 52,80 28,100 0,94"),                       #    smooth middle
     (1, "0,22 26,0 48,12 40,40 22,48! 52,50 66,70 40,98 6,100"),                      #    wide belly
     (.6, "14,24 2,14 28,0 52,14 40,38 16,46! 50,52 60,78 34,100 6,94 8,80"),          #    curled ends
     (.3, "0,10 40,0 62,20 36,44! 60,62 66,84 56,100")],                               #    no hook below
    [(3, "10,0 2,30 6,54 30,58 62,48 / 56,4 46,100"),                                  # 4  open, round corner
     (2, "10,0 0,52! 64,50 / 54,2 46,100"),                                            #    open, sharp corner
     (1, "44,0 0,62! 70,60 / 46,0 44,100"),                                            #    closed, printed
     (2, "6,4 0,40 16,58 42,50 58,6! 50,60 44,100"),                                   #    one stroke, open
     (1, "44,0 4,50! 30,56 70,48 / 50,20 40,100"),                                     #    short mast
     (1, "14,0 4,40! 34,42 64,36 / 60,0 48,100"),                                      #    high bar
     (.5, "0,0 4,26 20,36 44,30 / 46,0 40,100"),                                       #    small and high
     (.3, "10,6 0,60! 64,62 / 52,36 48,100"),                                          #    mast from the middle
     (1, "46,0 0,60! 24,64 56,58 / 48,0 46,100"),                                      #    closed, bar ends early
     (.5, "52,100 48,0! 0,64! 56,60")],                                                #    closed, drawn from below
    [(3, "16,4 10,44! 34,36 58,54 52,86 24,100 0,90 / 16,4 66,0"),                     # 5  hat drawn last
     (3, "66,0 20,4! 12,44! 36,38 58,58 48,90 22,100 0,92"),                           #    one stroke
     (2, "64,4 32,4 14,22 30,44 52,62 46,90 22,100 0,92"),                             #    like an S
     (2, "26,22 16,52! 44,52 52,74 32,98 0,96 / 26,22 88,4"),                          #    long rising hat
     (1, "20,0 14,40! 40,38 50,60 40,84 24,100 / 22,4 58,2"),                          #    no hook
     (1, "62,2 18,4! 12,46! 40,40 58,66 40,98 10,94 2,80 14,66"),                      #    hook curled up
     (.7, "76,0 40,6! 38,50 30,94 18,98 0,66"),                                        #    like a tick
     (.6, "20,6 10,46! 44,46 58,70 36,98 6,94 / 30,0 70,2"),                           #    hat apart
     (.4, "50,14 34,0 12,20 30,44 54,60 40,96 12,90 6,74 26,60")],                     #    rounded, almost an 8
    [(3, "42,0 14,30 0,66 12,98 42,96 52,72 32,56 6,76"),                              # 6  plain
     (2, "34,0 12,40 0,78 16,100 44,88 46,64 24,58 4,86"),                             #    narrow
     (2, "58,6 36,2 10,26 0,64 18,98 48,94 58,72 36,54 8,70"),                         #    curled top
     (1, "20,0 4,40 2,80 24,100 52,88 54,64 30,58 6,74"),                              #    upright
     (1.2, "20,0 2,40 2,80 28,100 62,90 66,70 46,60 26,72 26,88"),                     #    wide, loop curled in
     (.8, "34,0 10,40 0,80 14,100 36,90 38,74 20,72 8,90"),                            #    small loop
     (.5, "30,0 4,50 4,90 24,98 44,84 40,68 26,76")],                                  #    loop left open
    [(4, "0,6 56,2! 36,50 22,100"),                                                    # 7  plain
     (2, "0,12 24,4 58,6! 36,48 28,100"),                                              #    bent bar
     (2, "0,22 4,4! 30,6 58,2! 34,50 22,100"),                                         #    serif
     (1, "0,14 24,0 52,8 48,40 30,100"),                                               #    round
     (1, "0,6 56,2! 36,50 22,100 / 12,52 60,46"),                                      #    bar across
     (.5, "0,20 4,4! 58,3! 24,100 / 10,54 56,48"),                                     #    serif and bar
     (.4, "0,2 4,28 30,28 62,4! 44,50 30,100"),                                        #    wavy, like a y
     (.4, "0,34 2,4! 56,2! 50,50 46,100"),                                             #    long serif, upright
     (.3, "2,10 40,0 62,20 50,60 20,98"),                                              #    like a )
     (.3, "4,2 58,2! 30,50 18,92! 44,94")],                                            #    small foot
    [(4, "54,12 30,0 8,20 26,44 52,70 38,98 10,96 4,72 28,48 54,24 50,6"),             # 8  one stroke, from right
     (1.5, "60,4 30,2 10,22 28,46 50,72 34,98 8,94 6,72 34,46 68,6"),                  #    ends apart
     (1, "30,0 8,22 30,46 52,22 30,0 / 30,46 0,74 30,100 58,74 30,46"),                #    two rings
     (1, "28,48 52,28 44,4 18,4 10,26 32,48 54,74 34,100 6,90 6,66 28,48"),            #    from the waist
     (1, "52,14 30,0 10,14 28,34 56,66 40,98 10,96 2,70 28,40 50,24 50,10"),           #    small head
     (1, "56,18 34,0 4,12 10,36 36,56 46,80 30,100 16,86 26,62 56,34 58,14"),          #    small belly
     (.7, "62,14 30,8 10,20 30,44 40,80 22,100 10,84 30,54 72,0"),                     #    long exit
     (.5, "40,0 14,8 12,30 40,44 44,20 36,2 / 36,44 10,70 20,98 44,90 46,66 30,44")],  #    rings, slanted
    [(3, "50,12 26,0 2,24 14,46 42,34 54,6! 50,50 46,100"),                            # 9  straight stem
     (2, "50,14 28,0 2,22 12,46 40,38 54,8 44,56 22,100"),                             #    slanted stem
     (1, "50,16 26,0 2,22 14,46 44,32 54,14 52,66 36,96 6,90"),                        #    curled stem
     (1.5, "44,4 14,10 4,34 24,48 46,32 56,8! 48,50 42,100"),                          #    gap at the top
     (1, "28,0 2,22 26,46 50,24 28,0 / 52,6 46,100"),                                  #    ring and stem
     (1, "56,4 28,2 6,18 18,38 48,28! 46,60 36,100"),                                  #    gap on the right
     (1, "52,2 22,8 0,44 20,56 46,36 56,6! 58,60 60,100"),                             #    big ring, short stem
     (.7, "30,6 8,16 6,36 26,42 40,24 34,8 20,2 / 40,16 38,60 16,100"),                #    small ring
     (.5, "46,12 26,8 2,26 14,44 40,34 62,0! 46,50 30,100"),                           #    stem starts high
     (.5, "70,0 30,6 4,26 14,46 46,40 56,20! 50,60 40,100")],                          #    flourish above
]

ARABIC = [
    [(5, "0,0 30,0"),                                                                  # ٠  blob or dash: a dot, blown up
     (3, "0,0 40,6 70,0"),                                                             #    bowed dash
     (2, "0,0 40,0 40,24 0,24"),                                                       #    filled patch
     (1, "0,0 40,0! 40,40"),                                                           #    wedge
     (1, "0,40 30,0! 60,30"),                                                          #    roof
     (2, "30,0 4,10 4,40 30,50 56,40 56,10 30,0"),                                     #    ring, nearly filled
     (1, "0,0 60,4! 10,20 60,30! 0,40"),                                               #    scribble
     (1, "30,24 20,20 30,10 46,24 30,44 6,30 20,0 50,6")],                             #    spiral
    [(4, "0,0 4,100"),                                                                 # ١  straight
     (2, "0,0 8,50 24,100"),                                                           #    bent
     (.5, "0,8 10,0! 16,100")],                                                        #    nick at the top
    [(2, "46,20 42,4 12,2! 20,40 46,100"),                                             # ٢  drop at the arm's end
     (2, "54,8 26,2 2,28 12,66 56,100"),                                               #    like a C
     (1, "60,6 30,0 0,30 6,80 64,96"),                                                 #    wide C
     (2, "50,2 2,2! 22,50 44,100"),                                                    #    two straight strokes
     (1, "50,22 40,30 44,6 20,0 4,30 20,70 50,100"),                                   #    hook curled in
     (1, "44,40 56,22 40,4 8,8 2,40 12,76 30,100"),                                    #    long drop
     (1, "70,10 4,30! 40,70 76,90"),                                                   #    like a <
     (.3, "90,20 50,0 4,20 10,50 100,56")],                                            #    lying
    [(3, "74,0 70,22 44,24 38,4! 36,26 4,8! 24,50 40,100"),                            # ٣  two teeth
     (2, "60,0 52,24 8,28 0,4! 14,50 30,100"),                                         #    one wide tooth
     (2, "66,2 60,22 40,20 36,6! 28,22 2,6! 8,60 14,100"),                             #    upright
     (2, "58,4 50,18 30,14! 22,18 2,4! 24,50 40,100"),                                 #    shallow teeth
     (2, "54,0 44,22 26,24 2,2! 22,60 44,100"),                                        #    shallow tooth
     (1, "60,0 4,40! 50,100"),                                                         #    worn to a <
     (1, "46,0 30,30 4,0! 6,50 10,100"),                                               #    like a Y
     (.7, "64,14 58,0 46,12 36,22 34,6! 22,20 2,4! 14,60 24,100")],                    #    curled end
    [(3, "50,2 14,10 10,30 40,42! 6,60 6,88 66,96"),                                   # ٤  like an epsilon
     (2, "36,0 6,16 30,42! 10,60 10,96! 66,96"),                                       #    straight base
     (1, "20,0 6,20 20,40 14,60 20,90 64,98"),                                         #    shallow
     (1, "46,0 10,18 46,40! 10,62 40,84! 0,100"),                                      #    zigzag
     (1, "30,0 0,20! 16,50 12,80 22,92 70,100"),                                       #    almost an L
     (.6, "10,0 4,14 18,34 8,50 16,62 20,88 44,98"),                                   #    upright, shallow
     (.6, "30,20 40,4 20,0 16,20 36,34! 16,50 20,84 50,90"),                           #    ring at the top
     (1, "40,20 0,20! 20,40! 0,56 10,72 90,70"),                                       #    squat, long base
     (.5, "30,4 4,8! 6,70! 80,72")],                                                   #    corner and base
    [(4, "40,0 8,16 0,50 14,88 44,100 78,84 86,46 68,10 38,0"),                        # ٥  round
     (2, "50,0 12,40 0,80 40,100 86,90 90,56 50,2"),                                   #    pointed top
     (1, "40,10 10,20 0,60 30,96 70,90 86,50 60,12 40,30 38,44"),                      #    heart
     (.7, "30,6 0,40 14,88 60,100 88,60 70,10"),                                       #    open
     (1, "20,0 4,40 20,66 90,66 100,30 70,0 30,4 10,16"),                              #    flat
     (.5, "100,20 50,10 10,30 10,70 50,90 80,60 60,20 30,0")],                         #    tail at the top
    [(3, "0,2 54,4! 58,50 66,100"),                                                    # ٦  square corner
     (2, "0,12 20,0 54,6! 60,50 80,100"),                                              #    bowed bar
     (1, "0,4 56,2! 40,60 36,100"),                                                    #    stem leans left
     (1, "0,10 40,0 70,20 70,50 66,100"),                                              #    round corner
     (1, "0,24 14,8! 54,2! 62,50 60,100"),                                             #    serif
     (.7, "0,10 50,0 60,10! 40,60 60,90 90,100"),                                      #    foot
     (.3, "0,10 6,0! 40,16! 66,0! 44,100"),                                            #    dented bar
     (.5, "0,0 10,24! 60,12! 60,60 66,100")],                                          #    hooked serif
    [(3, "0,0 36,100! 70,0"),                                                          # ٧  sharp
     (2, "0,0 14,60 36,96 60,60 70,0"),                                                #    round
     (2, "0,14 16,10 50,90! 60,0"),                                                    #    flag on the left
     (.7, "0,10 20,80 50,90 66,40 50,4 40,14"),                                        #    end curls in
     (.5, "0,40 20,0! 50,90! 70,20")],                                                 #    hook on the left
    [(3, "0,100 34,0! 70,100"),                                                        # ٨  sharp
     (2, "0,100 12,40 34,4 58,40 70,100"),                                             #    round
     (2, "0,100 12,4! 60,90"),                                                         #    steep left leg
     (.7, "0,60 40,10 60,8 110,60"),                                                   #    flat roof
     (.5, "0,90 20,10 50,0 70,30 60,60"),                                              #    right leg curls in
     (.4, "0,100 20,10! 30,30 44,0! 60,100")],                                         #    dented roof
    [(3, "48,20 28,0 2,20 20,44 48,30 46,4! 50,50 54,100"),                            # ٩  straight stem
     (2, "46,10 20,4 4,30 26,46 46,16 56,56 80,100"),                                  #    slanted stem
     (1, "28,0 2,22 26,46 50,24 28,0 / 50,10 54,100"),                                 #    ring and stem
     (1, "44,40 4,44 10,10 30,0 46,20 56,60 66,100"),                                  #    gap below
     (1, "30,10 14,2 4,16 20,26 32,8 40,50 50,100"),                                   #    small ring
     (.5, "34,6 10,4 4,30 24,36 36,14 30,50 40,90 66,96"),                             #    foot
     (.7, "60,16 30,0 0,14 20,34 56,22! 70,60 96,96")],                                #    flat ring, long stem
]

# How the writers of a class differ; the figures follow the width, slant and ink of real training images, by class.
# Lengths in heights of the glyph, the radius in pixels, angles in radians; sd is the standard deviation.
#   slant   shear to the right             radius  median of the pen's, sd of its log, and the thickest
#   wide    logarithm of the width         jitter  sd of a control point
#   turn    sd of the rotation             halo    fraction with the false contour of MADBase's enlarged glyphs
COLUMNS = ["slant", "slant_sd", "wide", "wide_sd", "turn", "radius", "radius_sd", "radius_max", "jitter", "halo"]
SPREAD = {
    #    slant      wide       turn  radius          jitter halo
    "digits": [
        (.27, .22,  .15, .22,  .10,  1.38, .27, 4.,  .030,  0),        # 0
        (.23, .26,  .12, .22,  .10,  1.42, .30, 4.,  .045,  0),        # 1
        (.12, .27,  .12, .22,  .10,  1.30, .27, 4.,  .045,  0),        # 2
        (.12, .25,  .12, .22,  .10,  1.25, .27, 4.,  .045,  0),        # 3
        (.29, .30,  .12, .22,  .10,  1.15, .27, 4.,  .045,  0),        # 4
        (.10, .27,  .20, .25,  .10,  1.25, .27, 4.,  .045,  0),        # 5
        (.14, .22,  .12, .22,  .10,  1.17, .29, 4.,  .045,  0),        # 6
        (.03, .24,  .12, .22,  .10,  1.33, .27, 4.,  .045,  0),        # 7
        (.10, .24,  .12, .22,  .10,  1.05, .27, 4.,  .045,  0),        # 8
        (.12, .24,  .02, .22,  .10,  1.12, .27, 4.,  .045,  0),        # 9
    ],
    "arabic": [
        (.00, .18,  .20, .40,  1.4,  5.20, .42, 8.5, .080,  .25),      # ٠
        (-.07, .13, .08, .25,  .10,  1.50, .35, 3.5, .040,  .15),      # ١
        (-.10, .20, .08, .25,  .12,  1.70, .22, 3.5, .045,  .15),      # ٢
        (.00, .18,  .08, .25,  .12,  1.65, .20, 3.5, .045,  .15),      # ٣
        (-.15, .20, .08, .25,  .12,  1.55, .20, 3.5, .045,  .10),      # ٤
        (.00, .18,  .10, .30,  .12,  2.20, .25, 2.9, .045,  .45),      # ٥
        (-.20, .20, .08, .25,  .12,  1.60, .20, 3.5, .045,  .12),      # ٦
        (.00, .25,  .08, .25,  .12,  1.75, .22, 3.5, .045,  .20),      # ٧
        (-.05, .22, .08, .25,  .12,  1.80, .22, 3.5, .045,  .20),      # ٨
        (-.10, .20, .08, .25,  .12,  1.50, .20, 3.0, .045,  .10),      # ٩
    ],
}

SCAN_HALO = 0.25           # chance of an outline within the ink, where the kind does not say
RANDOM_SPREAD = (.08, .20, .00, .15, .08, 1.00, .22, 2., .035, 0)        # of every class of a random script

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
RATE = np.arange(1, 7, dtype=np.float32)[:, None]                                         # cycles a path, about
WAVES = np.sin(RATE * np.linspace(0, 6, POINTS, dtype=np.float32) + RATE) / RATE          # [6, POINTS]
GRID = np.arange(SIZE, dtype=np.float32)[:, None]                                         # [28, 1]
MOMENTS = np.stack([np.repeat(GRID, SIZE), np.tile(GRID[:, 0], SIZE), np.ones(SIZE ** 2, np.float32)], 1)  # y, x, 1


def _hash(x):
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), elementwise: uint64 -> uint64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class _Random:
    """Random numbers for B images, each a hash of the image's key and of how many were drawn before, so that no image
    depends on another."""

    def __init__(self, keys):
        self.keys, self.used = keys, 0                                                    # uint64 [B]

    def bits(self, n):
        """uint16 [B, n, 4]"""
        counter = np.arange(self.used + 1, self.used + n + 1, dtype=np.uint64) * GOLDEN
        self.used += n
        return _hash(self.keys[:, None] + counter).view(np.uint16).reshape(len(self.keys), n, 4)

    def uniform(self, n, low=0.0, high=1.0):
        """float32 [B, n] in [low, high)"""
        bits = self.bits(-(-n // 4)).reshape(len(self.keys), -1)[:, :n]
        return np.float32(low) + bits.astype(np.float32) * np.float32((high - low) / 65536)

    def normal(self, n):
        """float32 [B, n], mean 0, deviation 1: the sum of four uniforms, so never beyond 3.5 deviations"""
        total = self.bits(n).sum(-1, dtype=np.int32) - 2 * 65535
        return total.astype(np.float32) * np.float32(np.sqrt(3) / 65536)


def _parse(path):
    """Path text -> control points [C, 2] in heights of the glyph, and the path's smooth pieces: pairs of the stroke's
    number and the indices of the piece's points. A corner's point belongs to two pieces."""
    points, pieces = [], []
    for number, stroke in enumerate(path.split(" / ")):
        piece = []
        for word in stroke.split():
            piece.append(len(points))
            points.append([float(v) / 100 for v in word.rstrip("!").split(",")])
            if word.endswith("!"):
                pieces.append((number, piece))
                piece = piece[-1:]
        pieces.append((number, piece))
    return np.array(points), pieces


def _trace(points, pieces, width):
    """Sample a path evenly. A cubic Hermite spline is linear in its control points, so one matrix serves however they
    are moved: path [POINTS, 2] = basis [POINTS, width] @ control. -> basis, joined [POINTS - 1]: is the pen down?"""
    strokes, lengths, corners = [], [], []            # of every segment; its corners are the cubic's 4 rows of weights
    for stroke, ids in pieces:
        length = np.hypot(*np.diff(points[ids], axis=0).T)
        value = np.eye(width)[ids]
        slope = np.gradient(value, np.append(0, np.cumsum(length)), axis=0)
        strokes += [stroke] * len(length)
        lengths += [*length]
        corners += [[value[i], value[i + 1], slope[i] * d, slope[i + 1] * d] for i, d in enumerate(length)]
    ends = np.cumsum(lengths)
    at = (np.arange(POINTS) + 0.5) / POINTS * ends[-1]
    segment = np.searchsorted(ends, at)
    t = 1 - (ends[segment] - at) / np.array(lengths)[segment]
    cubic = np.stack([(1 + 2 * t) * (1 - t) ** 2, t * t * (3 - 2 * t), t * (1 - t) ** 2, t * t * (t - 1)], 1)
    basis = np.einsum("pi,pic->pc", cubic, np.array(corners)[segment]).astype(np.float32)
    return basis, np.diff(np.array(strokes)[segment]) == 0


def random_kind(kind):
    """"random-K" or "random-K-S": K characters (2 to 5,000) of the random script number S -> (K, S), else None. A
    script's character k is the same however many there are."""
    match = re.fullmatch(r"random-([1-9]\d{0,3})(?:-(\d{1,9}))?", kind, re.ASCII)
    count, script = (int(match[1]), int(match[2] or 0)) if match else (0, 0)
    return (count, script) if 2 <= count <= MAX_CLASSES else None


def classes_of(kind):
    """The names of a kind's classes, list of str. Raises ValueError for an unknown kind."""
    if not (kind in CLASSES or random_kind(kind)):
        raise ValueError(f"no kind {kind!r}: choose {', '.join(CLASSES)}, or random-2 to random-{MAX_CLASSES}")
    return CLASSES[kind] if kind in CLASSES else [f"r{k}" for k in range(random_kind(kind)[0])]


def _random_script(count, script):
    """Variants of every class, as in DIGITS."""
    keys = _hash(_hash(np.uint64([script + 1]) * GOLDEN) + np.arange(count, dtype=np.uint64))
    return [random_character(chances) for chances in _Random(keys).uniform(CHANCES).tolist()]


@functools.lru_cache(4)
def _tables(kind):
    """What a kind's images need: first [K], the index of a class's first variant; frequency [K, V], cumulative; of each
    variant control [N, C, 2], basis [N, POINTS, C] and joined [N, POINTS - 1]; each column of SPREAD, [K]."""
    classes = {"digits": DIGITS, "arabic": ARABIC}.get(kind) or _random_script(*random_kind(kind))
    parsed = [_parse(path) for variants in classes for _, path in variants]
    width = max(len(points) for points, _ in parsed) if kind in CLASSES else MOST_POINTS
    traced = [_trace(*variant, width) for variant in parsed]           # thousands, of a random script
    weights, most = [[weight for weight, _ in variants] for variants in classes], max(map(len, classes))
    frequency = [np.pad(np.cumsum(w) / sum(w), (0, most - len(w)), constant_values=1) for w in weights]
    return {"first": np.cumsum([0, *map(len, classes[:-1])]), "frequency": np.float32(frequency),
            "control": np.float32([np.pad(points, ((0, width - len(points)), (0, 0))) for points, _ in parsed]),
            "basis": np.array([basis for basis, _ in traced]), "joined": np.float32([joined for _, joined in traced]),
            **dict(zip(COLUMNS, np.float32(SPREAD.get(kind) or [RANDOM_SPREAD] * len(classes)).T))}


def _pen_paths(rng, labels, table):
    """-> the pen's paths float32 [B, POINTS, 2] (x, y), y down, at any scale; its travel at each sample [B, POINTS]."""
    b = len(labels)
    spread = {name: table[name][labels] for name in COLUMNS}                              # [B] each
    variant = table["first"][labels] + (rng.uniform(1) >= table["frequency"][labels]).sum(1)
    control = table["control"][variant]                                                   # [B, C, 2]
    control = control + spread["jitter"][:, None, None] * rng.normal(control[0].size).reshape(control.shape)
    path = table["basis"][variant] @ control
    path -= 0.5 * (path.max(1, keepdims=True) + path.min(1, keepdims=True))

    x, y = path[..., 0], path[..., 1]
    terms = np.stack([x * x, x * y, y * y, 2 * x * x * y, 2 * x * y * y, 2 * y * y * y], -1)
    path += terms @ (BEND * rng.normal(12)).reshape(b, 6, 2)
    path += WAVES.T @ (TREMBLE * rng.normal(2 * len(WAVES))).reshape(b, -1, 2)

    chance = rng.normal(3).T
    wide = np.exp(spread["wide"] + spread["wide_sd"] * chance[0])
    slant = spread["slant"] + spread["slant_sd"] * chance[1]
    turn = spread["turn"] * chance[2]
    cos, sin = np.cos(turn), np.sin(turn)
    stretch_shear_turn = np.stack([wide * cos, wide * sin, -slant * cos - sin, cos - slant * sin], -1)
    path = path @ stretch_shear_turn.reshape(b, 2, 2)

    half = np.hypot(*np.moveaxis(np.diff(path, axis=1), -1, 0)) * table["joined"][variant] / 2
    return path, np.pad(half, ((0, 0), (1, 0))) + np.pad(half, ((0, 0), (0, 1)))


def _ink(rng, path, travel, radius):
    """Depth float32 [B, 28, 28] of every pixel inside the edge of the ink, in pixels, negative outside.

    The distance to the path is a soft minimum over its samples, the logarithm of a sum of Gaussians: separable, so one
    matrix product an image. A sample's weight puts the edge at the radius there: `radius` [B, 1] times the pressure."""
    sigma = np.maximum(0.5, 0.3 * radius)
    k = 0.5 / sigma ** 2
    pressure = 1 + PRESSURE * (rng.normal(len(WAVES))[:, None] @ WAVES)[:, 0]             # [B, POINTS]
    weight = np.exp(k * radius ** 2 * (pressure ** 2 - 1)) * travel / (sigma * np.float32(np.sqrt(2 * np.pi)))
    rows, columns = (np.exp(-k[..., None] * np.square(GRID - path[:, None, :, i])) for i in (1, 0))  # [B, 28, POINTS]
    total = np.maximum((rows * weight[:, None]) @ columns.transpose(0, 2, 1), 1e-30)
    return radius[..., None] - np.sqrt(np.maximum(np.log(total) / -k[..., None], 0))


def _draw(keys, labels, kind, scanned):
    """keys uint64 [B], labels int64 [B] -> images uint8 [B, 28, 28]."""
    rng, table, b = _Random(keys), _tables(kind), len(keys)
    centre_of_frame = CENTRE["arabic" if kind == "arabic" else "digits"]
    path, travel = _pen_paths(rng, labels, table)

    halo = rng.uniform(1)[:, 0] < (table["halo"][labels] if kind == "arabic" else SCAN_HALO * scanned)
    radius = table["radius"][labels] * np.exp(table["radius_sd"][labels] * rng.normal(1)[:, 0])
    radius = np.where(halo, np.maximum(radius, rng.uniform(1, 2.4, 3.5)[:, 0]), radius)   # enlarged, so thick
    radius = np.minimum(radius, table["radius_max"][labels])[:, None]                     # [B, 1]

    # The ink's longest side on BOX pixels; the path's centre of mass near the centre, anywhere between two pixels.
    scale = (BOX - 2 * radius) / (path.max(1) - path.min(1)).max(1, keepdims=True)
    centre = (travel[:, None] @ path)[:, 0] / travel.sum(1, keepdims=True)
    path = (path - centre[:, None]) * scale[..., None] + (centre_of_frame + rng.uniform(2, -0.5, 0.5))[:, None]
    depth = _ink(rng, path, travel * scale, radius)

    rough = rng.uniform(SIZE * SIZE, -1, 1).reshape(b, SIZE, SIZE)
    if not scanned:                 # MNIST: black and white at a higher resolution, averaged down
        blur = rng.uniform(1, 0.8, 1.4)[..., None]
        image = (np.clip((depth + 0.15 * rough) / blur + 0.5, 0, 1) * 255 + 0.5).astype(np.uint8)
    else:                           # MADBase: black and white
        contour = halo[:, None, None] & (np.abs(depth + 0.25 * rough - 1.2) < 0.4)
        image = ((depth + 0.2 * rough > 0) & ~contour) * np.uint8(255)

    # As both data sets did, bring the centre of mass to the centre by whole pixels.
    moments = (image.reshape(b, 1, -1).astype(np.float32) @ MOMENTS)[:, 0]                # exact: integers below 2^24
    shift = np.clip(np.round(moments[:, :2] / moments[:, 2:] - centre_of_frame), -3, 3).astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, ((0, 0), (3, 3), (3, 3))), (SIZE, SIZE), (1, 2))
    return windows[np.arange(b), 3 + shift[:, 0], 3 + shift[:, 1]]


def generate(n, seed=0, kind="digits", labels=None, threads=2, scanned=False):
    """Draw n handwritten digits or characters: (images uint8 [n, 28, 28], ink 255 on 0, upright; labels int64 [n]).

    kind: "digits", "arabic" (Arabic-Indic), "random-K" or "random-K-S" (see random_kind); classes_of(kind) names them.
    labels: class indices [n] to draw; by default in random order, every class once in each run of as many as there are.
    scanned: as the scans of MADBase look, black and white with frayed edges, some with an outline within (as "arabic" always).
    Image i is a function of (seed, i, kind, its label, scanned) alone: the same for any n and any number of threads.
    Raises ValueError for an unknown kind and for labels that are not n class indices."""
    classes = len(classes_of(kind))
    number = list(CLASSES).index(kind) if kind in CLASSES else len(CLASSES) + random_kind(kind)[1]
    key = _hash(np.uint64([seed % 2 ** 64]) * GOLDEN + np.uint64(1 + number))
    if labels is None:
        runs = _Random(_hash(key + np.arange(-(-n // classes), dtype=np.uint64)))
        labels = runs.bits(classes)[..., 0].argsort(1, kind="stable").ravel()[:n]
    labels = np.asarray(labels).astype(np.int64)
    if labels.shape != (n,) or ((labels < 0) | (labels >= classes)).any():
        raise ValueError(f"labels must be {n} class indices from 0 to {classes - 1}")
    keys = _hash(_hash(key) + np.arange(n, dtype=np.uint64))
    images = np.empty((n, SIZE, SIZE), np.uint8)

    def draw(start):
        part = slice(start, start + CHUNK)
        images[part] = _draw(keys[part], labels[part], kind, scanned or kind == "arabic")

    with ThreadPoolExecutor(threads) as pool:                # numpy lets go of the interpreter lock inside its loops
        list(pool.map(draw, range(0, n, CHUNK)))
    return images, labels
