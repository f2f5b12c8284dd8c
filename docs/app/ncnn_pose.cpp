// One person's whole-body pose by an ncnn bundle, from C++ alone:
//
//     c++ -O2 -fopenmp ncnn_pose.cpp -I$NCNN/include -L$NCNN/lib -lncnn -o ncnn_pose
//     ncnn_pose BUNDLE picture.ppm x1 y1 x2 y2
//
// prints a line a keypoint: x and y in pixels of the picture, the score, and the chance that it is right. The constants
// are those of BUNDLE/manifest.json for rtmw-n-256x192. A binary PPM is what reads without a library.
#include <ncnn/net.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "rtmw.hpp"

static const int WIDTH = 192, HEIGHT = 256, KEYPOINTS = 133;  // input.width, input.height
static const double A = 0.70403, B = -4.07444;                // score.a, score.b

int main(int count, char** words) {
    if (count != 7) return std::fprintf(stderr, "usage: ncnn_pose BUNDLE picture.ppm x1 y1 x2 y2\n"), 2;
    const std::string bundle = words[1];

    std::FILE* const file = std::fopen(words[2], "rb");
    int columns = 0, rows = 0, largest = 0;
    if (file == nullptr || std::fscanf(file, "P6 %d %d %d", &columns, &rows, &largest) != 3 || largest != 255 ||
        std::fgetc(file) == EOF || columns < 1 || rows < 1)
        return std::fprintf(stderr, "%s is not a binary PPM with 8 bits.\n", words[2]), 2;
    const std::size_t stride = static_cast<std::size_t>(columns) * 3;
    std::vector<std::uint8_t> image(stride * static_cast<std::size_t>(rows));
    if (std::fread(image.data(), 1, image.size(), file) != image.size())
        return std::fprintf(stderr, "%s is cut short.\n", words[2]), 2;
    std::fclose(file);
    for (std::size_t i = 0; i < image.size(); i += 3)
        std::swap(image[i], image[i + 2]);  // a PPM is RGB, the network takes BGR

    ncnn::Net net;
    // On by default in part; on ARM half-precision arithmetic moves half of the keypoints.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = false;
    net.opt.use_bf16_storage = false;
    if (net.load_param((bundle + "/model.param").c_str()) || net.load_model((bundle + "/model.bin").c_str()))
        return std::fprintf(stderr, "ncnn cannot open the model in %s.\n", bundle.c_str()), 2;

    const double x1 = std::atof(words[3]), y1 = std::atof(words[4]), x2 = std::atof(words[5]), y2 = std::atof(words[6]);
    if (!(x1 < x2 && y1 < y2)) return std::fprintf(stderr, "The box is empty: give x1 < x2 and y1 < y2.\n"), 2;
    const rtmw::Crop crop = rtmw::crop_around(x1, y1, x2, y2, WIDTH, HEIGHT);
    const std::vector<std::uint8_t> pixels = rtmw::cut(image.data(), columns, rows, stride, crop);

    ncnn::Extractor extractor = net.create_extractor();
    extractor.input("image", ncnn::Mat::from_pixels(pixels.data(), ncnn::Mat::PIXEL_BGR, WIDTH, HEIGHT));
    ncnn::Mat x, y;
    if (extractor.extract("simcc_x", x) || extractor.extract("simcc_y", y))
        return std::fprintf(stderr, "The model in %s has no simcc_x and simcc_y.\n", bundle.c_str()), 2;
    if (x.w != 2 * WIDTH || y.w != 2 * HEIGHT || x.h != KEYPOINTS || y.h != KEYPOINTS)
        return std::fprintf(stderr, "The constants in this program are not those of %s/manifest.json.\n", bundle.c_str()), 2;

    for (const rtmw::Keypoint& keypoint : rtmw::decode(x, y, KEYPOINTS, crop))
        std::printf("%.3f %.3f %.4f %.4f\n", keypoint.x, keypoint.y, keypoint.score,
                    rtmw::confidence(keypoint.score, A, B));
}
