// RTMW around any runtime: a person's box to the network's crop, and logits to keypoints of the image.
//
// Standard C++11 and nothing else: copy this file into your program. `ncnn_pose.cpp` beside it is a whole program; the
// page docs/app.md says what is read from a bundle. Apache-2.0.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace rtmw {

// Where a crop of width x height pixels lies in the image: image = crop * zoom + (left, top). An integer coordinate is
// the centre of a pixel, in the image as in the crop.
struct Crop {
    int width, height;
    double zoom, left, top;
};

struct Keypoint {
    float x, y;   // pixels of the image
    float z;      // metres behind the middle of the hips; 0 in 2D
    float score;  // a logit, as trained: see `confidence`
};

// The crop around a person's box (corners in image pixels): a quarter larger, then widened or heightened to the aspect
// of the network's input.
inline Crop crop_around(double x1, double y1, double x2, double y2, int width, int height) {
    const double zoom = 1.25 * std::max((x2 - x1) / width, (y2 - y1) / height);
    return {width, height, zoom, (x1 + x2) / 2 - zoom * width / 2, (y1 + y2) / 2 - zoom * height / 2};
}

// The pixels of a crop, bilinear, black outside the image: `bgr` has `rows` of `columns` x 3 bytes, `stride` bytes from
// row to row; the answer has height x width x 3. OpenCV's cv::warpAffine does the same faster. A box from nowhere, as far
// outside as a detector's may be or no number at all, gives black.
inline std::vector<std::uint8_t> cut(const std::uint8_t* bgr, int columns, int rows, std::size_t stride,
                                     const Crop& crop) {
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(crop.width) * static_cast<std::size_t>(crop.height) * 3);
    std::uint8_t* out = pixels.data();
    const auto at = [&](int row, int column, std::size_t colour) -> double {
        const bool inside = row >= 0 && row < rows && column >= 0 && column < columns;
        return inside ? bgr[static_cast<std::size_t>(row) * stride + static_cast<std::size_t>(column) * 3 + colour] : 0;
    };
    // All that is farther outside is as black, and might not fit an int; what is no number becomes `count` + 1.
    const auto within = [](double place, int count) { return std::max(-2.0, std::min(count + 1.0, place)); };
    for (int v = 0; v < crop.height; ++v) {
        const double y = within(v * crop.zoom + crop.top, rows);
        const int row = static_cast<int>(std::floor(y));
        const double down = y - row;
        for (int u = 0; u < crop.width; ++u) {
            const double x = within(u * crop.zoom + crop.left, columns);
            const int column = static_cast<int>(std::floor(x));
            const double right = x - column;
            for (std::size_t colour = 0; colour < 3; ++colour) {
                const double above = at(row, column, colour) * (1 - right) + at(row, column + 1, colour) * right;
                const double below =
                    at(row + 1, column, colour) * (1 - right) + at(row + 1, column + 1, colour) * right;
                *out++ = static_cast<std::uint8_t>(std::lround(above * (1 - down) + below * down));
            }
        }
    }
    return pixels;
}

// Keypoints of one person from the network's outputs, `count` lines of bins each: `simcc_x` has 2 * width bins,
// `simcc_y` 2 * height. In 3D `simcc_z` has `z_bins`, which cover -z_range..z_range metres (the manifest's `z_range`).
// Where the score is not positive nothing was found, and the coordinates mean nothing.
inline std::vector<Keypoint> decode(const float* simcc_x, const float* simcc_y, int count, const Crop& crop,
                                    const float* simcc_z = nullptr, int z_bins = 0, double z_range = 0) {
    const auto peak = [](const float* line, int bins) {
        return static_cast<int>(std::max_element(line, line + bins) - line);
    };
    const int x_bins = 2 * crop.width, y_bins = 2 * crop.height;
    std::vector<Keypoint> keypoints;
    keypoints.reserve(static_cast<std::size_t>(count));
    for (int k = 0; k < count; ++k) {
        const float* const line_x = simcc_x + static_cast<std::ptrdiff_t>(k) * x_bins;
        const float* const line_y = simcc_y + static_cast<std::ptrdiff_t>(k) * y_bins;
        const int x = peak(line_x, x_bins), y = peak(line_y, y_bins);
        Keypoint keypoint;
        keypoint.x = static_cast<float>(x / 2.0 * crop.zoom + crop.left);
        keypoint.y = static_cast<float>(y / 2.0 * crop.zoom + crop.top);
        keypoint.z = 0;
        if (simcc_z != nullptr) {
            const int z = peak(simcc_z + static_cast<std::ptrdiff_t>(k) * z_bins, z_bins);
            keypoint.z = static_cast<float>((z / (z_bins / 2.0) - 1) * z_range);
        }
        keypoint.score = std::min(line_x[x], line_y[y]);
        keypoints.push_back(keypoint);
    }
    return keypoints;
}

// A score as a chance in 0..1 that the keypoint is right; `a` and `b` are the manifest's `score`.
inline double confidence(double score, double a, double b) { return 1 / (1 + std::exp(-(a * score + b))); }

}  // namespace rtmw
