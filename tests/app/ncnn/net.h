// Not ncnn: the calls that ncnn_pose.cpp makes, answered with the logits that lie in the current folder.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>
namespace ncnn {
struct Mat {
    enum { PIXEL_RGB = 1, PIXEL_BGR = 2 };
    std::vector<float> values;
    int w = 0, h = 0;
    operator const float*() const { return values.data(); }
    static Mat from_pixels(const uint8_t* pixels, int type, int w, int h) {
        if (type != PIXEL_BGR) std::abort();
        std::ofstream("seen.bgr", std::ios::binary).write(reinterpret_cast<const char*>(pixels), w * h * 3);
        return Mat();
    }
};
struct Option {
    bool use_fp16_packed = true, use_fp16_storage = true, use_fp16_arithmetic = true, use_bf16_storage = true;
};
struct Extractor {
    int input(const char* name, const Mat&) { return std::string(name) != "image"; }
    int extract(const char* name, Mat& out) {
        std::ifstream file(std::string(1, name[6]) + ".f32", std::ios::binary | std::ios::ate);
        out.h = 133, out.w = int(file.tellg()) / 4 / out.h;
        out.values.resize(size_t(out.w * out.h));
        return !file.seekg(0).read(reinterpret_cast<char*>(out.values.data()), out.values.size() * 4);
    }
};
struct Net {
    Option opt;
    int load_param(const char* name) { return !std::ifstream(name); }
    int load_model(const char* name) {
        if (opt.use_fp16_packed || opt.use_fp16_storage || opt.use_fp16_arithmetic || opt.use_bf16_storage)
            std::abort();
        return !std::ifstream(name);
    }
    Extractor create_extractor() { return Extractor(); }
};
}  // namespace ncnn
